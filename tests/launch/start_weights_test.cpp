// tests/launch/start_weights_test.cpp: FP8 folders as published, and training that starts from a
// model on disk.
#include "launch/trainer/start_weights.h"

#include "core/ops/math/fp8.h"
#include "core/ops/quantize.h"
#include "data/huggingface/fp8_blocks.h"
#include "data/huggingface/model_folder.h"
#include "launch/commands/export.h"
#include "launch/trainer/model_source.h"
#include "parallel/shard/layout.h"
#include "tests/launch/saved_model.h"

namespace strait {
namespace {

using huggingface::ModelFolderReader;
using huggingface::SafetensorsFile;
using huggingface::SafetensorsWriter;
using huggingface::TensorSpec;
using test::error_of;
using test::SavedModel;
using test::text_of;
using test::values_of;
namespace fs = std::filesystem;

// Of more than one block each way, the last ones not whole.
const std::vector<std::string> kWide = {"model.hidden_size=160", "model.intermediate_size=300"};

// What the quantiser that training uses makes of a matrix.
std::vector<float> through_blocks(const std::vector<float>& values, int64_t rows, int64_t cols) {
  Context ctx(Device::cpu, 1);
  Tensor x = ctx.empty({rows, cols}, DType::f32, Purpose::workspace), y = x;
  std::ranges::copy(values, x.data<float>());
  Fp8Matrix q = empty_fp8(ctx, rows, cols, ScaleLayout::blocks_128x128, Purpose::workspace);
  quantize_blocks(ctx, x, {.least_max = kLeastPublishedMax}, q);
  dequantize(ctx, q, y);
  return {y.data<float>(), y.data<float>() + rows * cols};
}

TEST(Fp8Folder, HoldsWhatTheQuantiserMakes) {
  const SavedModel saved(kWide);
  ASSERT_EQ(run_export({.from = saved.run(), .to = saved.path("out"), .dtype = "fp8"}), 0);
  const ModelFolderReader folder(saved.path("out"));
  EXPECT_EQ(folder.settings(), saved.recipe.model);
  int num_fp8 = 0;
  for (const ModelSource source(saved.run()); const TensorSpec& tensor : source.tensors()) {
    if (tensor.name.ends_with("bias")) continue;
    const std::vector<float> master = saved.master(tensor.name);
    const std::vector<float> stored = values_of(folder, tensor.name);
    const std::string& dtype = folder.tensors().at(tensor.name).dtype;
    if (dtype == "F8_E4M3") {
      ++num_fp8;
      EXPECT_EQ(stored, through_blocks(master, tensor.shape[0], tensor.shape[1])) << tensor.name;
      const auto& scales = folder.tensors().at(tensor.name + "_scale_inv");
      EXPECT_EQ(scales.dtype, "F32");
      EXPECT_EQ(scales.shape, (std::vector<int64_t>{(tensor.shape[0] + 127) / 128,
                                                    (tensor.shape[1] + 127) / 128}));
    } else {
      EXPECT_EQ(dtype, "BF16") << tensor.name;
      for (size_t i = 0; i < master.size(); ++i)
        ASSERT_EQ(stored[i], to_float(to_bfloat16(master[i]))) << tensor.name;
    }
  }
  // Attention has 5, the dense layer's MLP 3, shared experts 3 and 8 experts 3 each; and MTP's
  // block.
  EXPECT_EQ(num_fp8, 4 * 5 + 3 + 3 * (3 + 8 * 3));
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight",
                           "model.layers.1.mlp.gate.weight", "model.layers.3.eh_proj.weight"})
    EXPECT_EQ(folder.tensors().at(name).dtype, "BF16") << name;
  EXPECT_EQ(ModelSource(saved.path("out")).compute(), DType::bf16);
}

// What was read of it and quantised again has the same codes and scales.
TEST(Fp8Folder, OfAnExportIsTheSame) {
  const SavedModel saved(kWide);
  run_export({.from = saved.run(), .to = saved.path("a"), .dtype = "fp8"});
  run_export({.from = saved.path("a"), .to = saved.path("b"), .dtype = "fp8"});
  for (const char* file : {"model.safetensors", "config.json"})
    EXPECT_EQ(text_of(saved.path("a") + "/" + file), text_of(saved.path("b") + "/" + file)) << file;
}

// Reading begins anywhere, across rows and blocks.
TEST(Fp8Folder, ReadsAnyStretch) {
  const SavedModel saved(kWide);
  run_export({.from = saved.run(), .to = saved.path("out"), .dtype = "fp8"});
  const ModelFolderReader folder(saved.path("out"));
  const std::string name = "model.layers.0.mlp.gate_proj.weight",
                    other = "model.layers.0.mlp.up_proj.weight";
  const std::vector<float> all = values_of(folder, name);
  for (const int64_t offset : {0, 127, 160 * 127 + 150, 160 * 299}) {
    std::vector<float> part(std::min<size_t>(500, all.size() - static_cast<size_t>(offset)));
    values_of(folder, other);
    folder.read(name, offset, part);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + offset)) << offset;
  }
}

// Writes the file of `folder` again, with each tensor that `change` keeps, as it says.
void rewrite(const std::string& folder, const std::function<bool(TensorSpec&)>& change) {
  const std::string path = folder + "/model.safetensors", next = folder + "/next";
  {
    const SafetensorsFile file(path);
    std::vector<TensorSpec> tensors;
    for (const auto& [name, stored] : file.tensors()) {
      TensorSpec spec{name, stored.shape, stored.dtype == "BF16" ? DType::bf16 : DType::f32};
      if (stored.dtype == "F8_E4M3") spec.dtype = DType::u8, spec.e4m3 = true;
      if (change(spec)) tensors.push_back(spec);
    }
    SafetensorsWriter writer(next, tensors);
    for (const TensorSpec& tensor : tensors)
      writer.append(tensor.name, std::vector<std::byte>(static_cast<size_t>(tensor.bytes())));
    writer.finish();
  }
  fs::rename(next, path);
}

TEST(Fp8Folder, MissingAndWrongScales) {
  const SavedModel saved(kWide);
  const std::string out = saved.path("out"),
                    scales = "model.layers.0.mlp.down_proj.weight_scale_inv";
  run_export({.from = saved.run(), .to = out, .dtype = "fp8"});
  rewrite(out, [&](TensorSpec& tensor) {
    if (tensor.name == scales) tensor.shape = {2, 2};
    return true;
  });
  EXPECT_SAYS(error_of<DataError>([&] { ModelSource source(out); }),
              scales +
                  " has shape [2, 2], expected [2, 3]: a scale for each block of 128 x 128 of "
                  "[160, 300]");
  rewrite(out, [&](TensorSpec& tensor) { return tensor.name != scales; });
  EXPECT_SAYS(error_of<DataError>([&] { ModelSource source(out); }),
              "tensor model.layers.0.mlp.down_proj.weight is FP8, and its scales " + scales +
                  " are missing");
}

class StartWeights : public testing::TestWithParam<const char*> {};

std::unique_ptr<Engine> fresh_engine(const Recipe& recipe, Comm& comm) {
  auto engine = std::make_unique<Engine>(engine_settings(recipe, Mesh(1, 1, 1), 1), Mesh(1, 1, 1),
                                         Rank{0}, &comm, Device::cpu);
  engine->initialise(77);
  return engine;
}

std::map<std::string, std::vector<float>> masters_of(Engine& engine) {
  std::map<std::string, std::vector<float>> masters;
  constexpr StateKind kMaster[] = {StateKind::master};
  for (const StatePiece& piece : pieces_of(engine.buckets(), kMaster)) {
    const auto* values = reinterpret_cast<const float*>(piece.values);
    auto& master = masters[piece.name];
    master.insert(master.end(), values, values + piece.count);
  }
  return masters;
}

TEST_P(StartWeights, AreThoseOfTheFolder) {
  const SavedModel saved(kWide);
  const std::string out = saved.path("out");
  run_export({.from = saved.run(), .to = out, .dtype = GetParam()});
  Recipe recipe = saved.recipe;
  recipe.train.start_from = out;
  const auto engine = fresh_engine(recipe, *saved.comm);
  EXPECT_EQ(load_start_weights(*engine, *saved.comm, recipe), "weights of " + out);
  const ModelFolderReader folder(out);
  for (const auto& [name, master] : masters_of(*engine))
    EXPECT_EQ(master, values_of(folder, name)) << name;
  EXPECT_TRUE(std::ranges::equal(engine->selection_bias(), saved.engine->selection_bias()));
}
INSTANTIATE_TEST_SUITE_P(Formats, StartWeights, testing::Values("fp32", "bf16", "fp8"),
                         [](const auto& info) { return std::string(info.param); });

TEST(StartWeights, ACheckpointWithoutMtpLeavesTheModuleAsItIs) {
  const SavedModel saved({"model.num_nextn_predict_layers=0"});
  Recipe recipe = saved.recipe;
  recipe.model.num_nextn_predict_layers = 1;
  recipe.train.start_from = saved.run();
  const auto engine = fresh_engine(recipe, *saved.comm);
  const auto before = masters_of(*engine);
  EXPECT_SAYS(load_start_weights(*engine, *saved.comm, recipe), "which has no MTP module");
  int of_mtp = 0;
  for (const auto& [name, master] : masters_of(*engine)) {
    const bool mtp = name.starts_with("model.layers.3.");
    of_mtp += mtp;
    EXPECT_EQ(master, mtp ? before.at(name) : saved.master(name)) << name;
  }
  EXPECT_GT(of_mtp, 10);
}

TEST(StartWeights, RefusesAnotherModel) {
  const SavedModel saved;
  Recipe recipe = saved.recipe;
  recipe.model.moe_intermediate_size = 16;
  recipe.train.start_from = saved.run();
  const auto engine = fresh_engine(recipe, *saved.comm);
  EXPECT_SAYS(error_of<RecipeError>([&] { load_start_weights(*engine, *saved.comm, recipe); }),
              "moe_intermediate_size");
  recipe.train.start_from = saved.path("none");
  EXPECT_SAYS(error_of<DataError>([&] { load_start_weights(*engine, *saved.comm, recipe); }),
              "none: no such folder");
}

}  // namespace
}  // namespace strait
