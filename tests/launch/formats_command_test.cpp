// `strait recipe formats`: what it says of a recipe, beside what training makes of it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "launch/commands/formats.h"
#include "launch/engine/engine_settings.h"

namespace strait {
namespace {

const std::string kRecipe = STRAIT_SOURCE_DIR "/recipes/quickstart.yaml";

const FormatSection& section_of(const std::vector<FormatSection>& sections,
                                const std::string& name) {
  for (const FormatSection& section : sections)
    if (section.name == name) return section;
  throw InternalError("no section " + name);
}

// The cell of a row and a column; "absent" if there is no such row.
std::string cell(const FormatSection& section, const std::string& row, const std::string& column) {
  for (const auto& cells : section.rows)
    for (size_t i = 0; i < cells.size() && cells[0] == row; ++i)
      if (section.columns[i] == column) return cells[i];
  return "absent";
}

class Formats {
 public:
  explicit Formats(const std::vector<std::string>& overrides)
      : sections_(format_sections(load_recipe(kRecipe, overrides))) {}
  std::string weight(const std::string& role, const std::string& column) const {
    return cell(section_of(sections_, "weights"), role, column);
  }
  std::string waits(const std::string& what) const {
    return cell(section_of(sections_, "waits for backward"), what, "as");
  }
  std::string wire(const std::string& what) const {
    return cell(section_of(sections_, "wires"), what, "as");
  }
  std::string saved(const std::string& what) const {
    return cell(section_of(sections_, "checkpoint"), what, "as");
  }

 private:
  std::vector<FormatSection> sections_;
};

const std::string kCodes = "E4M3: x, dy 1x128; weight 128x128; for dW 128x1";

TEST(FormatsCommand, Fp8) {
  const Formats f({"train.precision=fp8", "optimizer.moments_dtype=bf16", "parallel.pipeline=2"});
  for (const char* role :
       {"attention projections", "dense MLP", "shared experts", "routed experts"}) {
    EXPECT_EQ(f.weight(role, "kept"), "BF16") << role;
    EXPECT_EQ(f.weight(role, "multiplies"), kCodes) << role;
    EXPECT_EQ(f.weight(role, "export --dtype fp8"), "E4M3 128x128") << role;
  }
  for (const char* role : {"attention itself", "head", "MTP projection"})
    EXPECT_EQ(f.weight(role, "multiplies"), "BF16") << role;
  for (const char* role : {"norms", "router"}) {
    EXPECT_EQ(f.weight(role, "kept"), "FP32") << role;
    EXPECT_EQ(f.weight(role, "multiplies"), "FP32") << role;
  }
  EXPECT_EQ(f.weight("head", "gradient"), "FP32");
  EXPECT_EQ(f.weight("head", "moments"), "BF16");
  EXPECT_EQ(f.saved("moments"), "BF16");
  EXPECT_EQ(f.saved("master weights"), "FP32");
  EXPECT_EQ(f.waits("attention's output, input of its last projection"), "E5M6 1x128");
  EXPECT_EQ(f.waits("routed experts: inputs of SwiGLU"), "E4M3 1x128");
  EXPECT_EQ(f.waits("rows that came to the experts"), "E4M3 1x128");
  EXPECT_EQ(f.wire("rows to the experts"), "E4M3 1x128, scales FP32");
  EXPECT_EQ(f.wire("experts' sums back"), "BF16");
  EXPECT_EQ(f.wire("hidden state and its gradient between stages"), "FP32");
}

TEST(FormatsCommand, SingleRolesAndRecomputation) {
  const Formats f({"train.precision=fp8", "formats.mlp=bf16", "formats.caches=bf16",
                   "parallel.dispatch_wire=bf16", "parallel.combine_wire=fp32",
                   "train.recompute=[norms, swiglu]"});
  EXPECT_EQ(f.weight("shared experts", "multiplies"), "BF16");
  EXPECT_EQ(f.weight("dense MLP", "multiplies"), "BF16");
  EXPECT_EQ(f.weight("routed experts", "multiplies"), kCodes);
  EXPECT_EQ(f.waits("attention's output, input of its last projection"), "BF16 and E4M3 1x128");
  EXPECT_EQ(f.waits("routed experts: inputs of SwiGLU"), "BF16");
  EXPECT_EQ(f.waits("routed experts: outputs of SwiGLU"), "made again");
  EXPECT_EQ(f.waits("shared experts: input"), "made again");
  EXPECT_EQ(f.wire("rows to the experts"), "BF16");
  EXPECT_EQ(f.wire("experts' sums back"), "FP32");
  EXPECT_EQ(f.wire("hidden state and its gradient between stages"), "absent");
}

TEST(FormatsCommand, OfWhatTheModelLacksNothing) {
  const Formats dense({"model.n_routed_experts=0", "model.num_experts_per_tok=0",
                       "model.first_k_dense_replace=4", "model.n_shared_experts=0",
                       "model.num_nextn_predict_layers=0", "model.tie_word_embeddings=true",
                       "model.n_group=1", "model.topk_group=1", "parallel.expert=1",
                       "train.precision=fp32"});
  for (const char* role :
       {"router", "shared experts", "routed experts", "MTP projection", "head", "embedding"})
    EXPECT_EQ(dense.weight(role, "kept"), "absent") << role;
  EXPECT_EQ(dense.weight("embedding and head", "kept"), "FP32");
  EXPECT_EQ(dense.weight("dense MLP", "multiplies"), "FP32");
  EXPECT_EQ(dense.wire("rows to the experts"), "absent");
  EXPECT_EQ(dense.waits("rows that came to the experts"), "absent");
  EXPECT_EQ(dense.waits("FP8 layers' inputs and gradients, for weight gradients"), "absent");
}

// Every parameter that the engine of a rank has is in a role of its formats.
TEST(FormatsCommand, EveryParameterIsSomewhere) {
  for (const char* precision : {"fp32", "bf16", "fp8"}) {
    const Recipe recipe =
        load_recipe(kRecipe, {std::string("train.precision=") + precision, "parallel.expert=1"});
    const Mesh mesh(1, 1, 1);
    const Engine engine(engine_settings(recipe, mesh, 1), mesh, {0}, nullptr, Device::meta);
    std::set<std::string> stored, listed;
    for (const auto& parameter : engine.model().parameters)
      stored.insert(parameter->role == Role::embedding   ? std::string("looked up")
                    : parameter->operands == DType::e4m3 ? kCodes
                    : parameter->operands == DType::bf16 ? "BF16"
                                                         : "FP32");
    const std::vector<FormatSection> sections = format_sections(recipe);
    for (const auto& row : section_of(sections, "weights").rows) listed.insert(row[2]);
    EXPECT_EQ(stored, listed) << precision;
  }
}

TEST(FormatsCommand, PrintsATableOrJson) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_recipe_formats(kRecipe, {"train.precision=fp8"}, false), 0);
  const std::string table = testing::internal::GetCapturedStdout();
  EXPECT_NE(table.find("\n  routed experts         BF16  " + kCodes), std::string::npos) << table;
  EXPECT_EQ(table.find(" \n"), std::string::npos) << table;
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_recipe_formats(kRecipe, {}, true), 0);
  const auto json = nlohmann::json::parse(testing::internal::GetCapturedStdout());
  EXPECT_EQ(json.size(), 6u);
  EXPECT_EQ(json["wires"][0]["as"], "BF16");
  EXPECT_THROW(run_recipe_formats(kRecipe, {"train.precision=fp7"}, false), RecipeError);
}

}  // namespace
}  // namespace strait
