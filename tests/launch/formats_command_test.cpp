#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "launch/commands/formats.h"

namespace strait {
namespace {

constexpr const char* kQuickstart = STRAIT_SOURCE_DIR "/recipes/quickstart.yaml";

// What of a part -> its format, and of weights also what multiplies them.
std::map<std::string, std::string> formats(const std::vector<std::string>& overrides,
                                           const std::string& part) {
  std::map<std::string, std::string> result;
  for (const FormatRow& row : formats_in_use(load_recipe(kQuickstart, overrides)))
    if (row.part == part)
      result[row.what] = row.format + (row.products.empty() ? "" : " x " + row.products);
  return result;
}

constexpr const char* kCodes =
    "bf16 x e4m3: weights 128x128, activations and gradients 1x128, for dW 128x1";

TEST(FormatsCommand, WeightsOfEveryRole) {
  auto bf16 = formats({}, "weights");
  EXPECT_EQ(bf16["attention's projections"], "bf16 x bf16");
  EXPECT_EQ(bf16["routed experts"], "bf16 x bf16");
  EXPECT_EQ(bf16["router"], "fp32 x fp32");
  EXPECT_EQ(bf16["norms"], "fp32 x -");
  auto fp8 = formats({"train.precision=fp8"}, "weights");
  for (const char* role :
       {"attention's projections", "dense MLPs", "shared experts", "routed experts"})
    EXPECT_EQ(fp8[role], kCodes) << role;
  EXPECT_EQ(fp8["router"], "fp32 x fp32");
  EXPECT_EQ(fp8["head"], "bf16 x bf16");
  EXPECT_EQ(fp8["embedding"], "bf16 x -");
  EXPECT_EQ(fp8["the MTP module's projection"], "bf16 x bf16");
  EXPECT_EQ(fp8["moments"], "fp32");
  auto mixed = formats({"train.precision=fp8", "formats.attention=bf16"}, "weights");
  EXPECT_EQ(mixed["attention's projections"], "bf16 x bf16");
  EXPECT_EQ(mixed["routed experts"], kCodes);
}

TEST(FormatsCommand, WhatIsKeptAndSent) {
  const std::string kept = "between forward and backward", sent = "between ranks";
  auto fp8 = formats({"train.precision=fp8", "train.recompute=[norms]"}, kept);
  EXPECT_EQ(fp8["attention's output"], "e5m6, 1x128");
  EXPECT_EQ(fp8["inputs of SwiGLU"], "e4m3, 1x128");
  EXPECT_EQ(fp8["inputs of attention's projections"], "computed again from the residual stream");
  EXPECT_EQ(fp8["outputs of SwiGLU"], "e4m3, 1x128");
  EXPECT_EQ(formats({}, kept)["inputs of SwiGLU"], "bf16");
  EXPECT_EQ(formats({}, kept).count("operands that wait for dW"), 0u);
  auto wires = formats({"train.precision=fp8", "parallel.combine_wire=fp8"}, sent);
  EXPECT_EQ(wires["rows to the experts"], "e4m3, 1x128");
  EXPECT_EQ(wires["experts' sums"], "e4m3, 1x128");
  EXPECT_EQ(wires["gradients of rows to the experts"], "bf16");
  EXPECT_EQ(formats({"train.precision=fp32"}, sent)["experts' sums"], "fp32");
}

TEST(FormatsCommand, ListsWhatTheModelHas) {
  const std::vector<std::string> dense = {"model.n_routed_experts=0",
                                          "model.n_shared_experts=0",
                                          "model.num_experts_per_tok=0",
                                          "parallel.expert=1",
                                          "model.n_group=1",
                                          "model.topk_group=1",
                                          "model.num_nextn_predict_layers=0"};
  auto weights = formats(dense, "weights");
  for (const char* role : {"router", "routed experts", "shared experts"})
    EXPECT_EQ(weights.count(role), 0u) << role;
  EXPECT_EQ(weights.count("dense MLPs"), 1u);
  EXPECT_EQ(formats(dense, "between ranks").count("rows to the experts"), 0u);
}

TEST(FormatsCommand, PrintsATableOrJson) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_recipe_formats(kQuickstart, {"train.precision=fp8"}, true), 0);
  const auto json = nlohmann::json::parse(testing::internal::GetCapturedStdout());
  EXPECT_EQ(json["kind"], "formats");
  EXPECT_EQ(json["rows"].size(),
            formats_in_use(load_recipe(kQuickstart, {"train.precision=fp8"})).size());
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_recipe_formats(kQuickstart, {}, false), 0);
  const std::string table = testing::internal::GetCapturedStdout();
  EXPECT_NE(table.find("between ranks\n  rows to the experts"), std::string::npos) << table;
  EXPECT_THROW(run_recipe_formats("nowhere.yaml", {}, false), Error);
}

}  // namespace
}  // namespace strait
