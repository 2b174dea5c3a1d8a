// tests/launch/export_test.cpp: a checkpoint as a Hugging Face folder.
#include "launch/commands/export.h"

#include "data/huggingface/model_folder.h"
#include "launch/trainer/model_source.h"
#include "tests/launch/saved_model.h"

namespace strait {
namespace {

using huggingface::ModelFolderReader;
using test::error_of;
using test::SavedModel;
using test::text_of;
using test::values_of;
namespace fs = std::filesystem;

TEST(Export, Fp32HoldsTheMasters) {
  const SavedModel saved;
  ASSERT_EQ(run_export({.from = saved.run(), .to = saved.path("out"), .dtype = "fp32"}), 0);
  const ModelFolderReader folder(saved.path("out"));
  EXPECT_EQ(folder.settings(), saved.recipe.model);
  EXPECT_EQ(folder.tokens().eos, 0);
  const auto& bias = saved.engine->selection_bias();
  for (const ModelSource source(saved.run());
       const huggingface::TensorSpec& tensor : source.tensors()) {
    ASSERT_TRUE(folder.has(tensor.name)) << tensor.name;
    EXPECT_EQ(folder.tensors().at(tensor.name).shape, tensor.shape);
    if (tensor.name.ends_with("bias")) continue;
    EXPECT_EQ(values_of(folder, tensor.name), saved.master(tensor.name));
  }
  // Layers 1 and 2, and the MTP block, have a selection bias each.
  for (int layer = 1; layer <= 3; ++layer)
    EXPECT_EQ(values_of(folder, "model.layers." + std::to_string(layer) +
                                    ".mlp.gate.e_score_correction_bias"),
              std::vector<float>(bias.begin() + 8 * (layer - 1), bias.begin() + 8 * layer));
  EXPECT_TRUE(folder.has("model.layers.3.eh_proj.weight"));
  EXPECT_EQ(text_of(saved.path("out/tokenizer.json")), test::byte_tokenizer_json());
  for (const char* file :
       {"tokenizer_config.json", "special_tokens_map.json", "generation_config.json"})
    EXPECT_TRUE(fs::exists(saved.path("out") + "/" + file)) << file;
}

TEST(Export, Bf16RoundsAllButTheBiases) {
  const SavedModel saved;
  ASSERT_EQ(run_export({.from = saved.step(), .to = saved.path("out")}), 0);
  const ModelFolderReader folder(saved.path("out"));
  const std::vector<float> exact = saved.master("model.layers.1.mlp.experts.5.down_proj.weight");
  const std::vector<float> stored =
      values_of(folder, "model.layers.1.mlp.experts.5.down_proj.weight");
  ASSERT_EQ(stored.size(), exact.size());
  for (size_t i = 0; i < exact.size(); ++i) EXPECT_EQ(stored[i], to_float(to_bfloat16(exact[i])));
  EXPECT_EQ(values_of(folder, "model.layers.1.mlp.gate.e_score_correction_bias")[3],
            saved.engine->selection_bias()[3]);
  EXPECT_EQ(ModelSource(saved.path("out")).compute(), DType::bf16);
}

TEST(Export, OfAnExportIsTheSame) {
  const SavedModel saved;
  run_export({.from = saved.run(), .to = saved.path("a"), .dtype = "fp32"});
  run_export({.from = saved.path("a"), .to = saved.path("b"), .dtype = "fp32"});
  for (const char* file :
       {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"})
    EXPECT_EQ(text_of(saved.path("a") + "/" + file), text_of(saved.path("b") + "/" + file)) << file;
}

TEST(Export, AV2ModelHasNoBiases) {
  const SavedModel saved({"model.scoring_func=softmax", "model.topk_method=greedy",
                          "model.norm_topk_prob=false", "model.n_group=1", "model.topk_group=1",
                          "model.q_lora_rank=0", "balance.bias_update_speed=0",
                          "model.num_nextn_predict_layers=0", "model.tie_word_embeddings=true"});
  run_export({.from = saved.run(), .to = saved.path("out"), .dtype = "fp32"});
  const ModelFolderReader folder(saved.path("out"));
  EXPECT_EQ(folder.settings(), saved.recipe.model);
  for (const auto& [name, tensor] : folder.tensors()) EXPECT_FALSE(name.ends_with("bias")) << name;
  EXPECT_FALSE(folder.has("lm_head.weight"));
}

// The engine computes the same bits from either.
TEST(Export, LogitsStay) {
  const SavedModel saved;
  run_export({.from = saved.run(), .to = saved.path("out"), .dtype = "fp32"});
  std::vector<float> logits[2];
  for (int i = 0; i < 2; ++i) {
    ModelSource source(i == 0 ? saved.step() : saved.path("out"));
    const auto engine = load_engine(source, {.sequence_length = 12});
    engine->watch_logits([&](const Tensor& chunk, int64_t) {
      logits[i].insert(logits[i].end(), chunk.span<float>().begin(), chunk.span<float>().end());
    });
    EXPECT_EQ(engine->window_tokens(), 13);  // no MTP module
    engine->evaluate({0, 5, 77, 31, 4, 250, 8, 8, 90, 2, 3, 100, 7});
  }
  EXPECT_EQ(logits[0].size(), 12u * 260);
  EXPECT_EQ(logits[0], logits[1]);
}

TEST(Export, RefusesAndLeavesNothing) {
  const SavedModel saved({},
                         [](Engine& engine) { engine.buckets()[3].master.data<float>()[7] = NAN; });
  EXPECT_SAYS(
      error_of<NumericsError>([&] { run_export({.from = saved.run(), .to = saved.path("out")}); }),
      "has values that are not finite");
  EXPECT_SAYS(error_of<RecipeError>([&] {
                run_export({.from = saved.run(), .to = saved.path("out"), .dtype = "fp4"});
              }),
              "--dtype: expected bf16, fp32 or fp8, got 'fp4'");
  EXPECT_SAYS(error_of<DataError>(
                  [&] { run_export({.from = saved.path("none"), .to = saved.path("out")}); }),
              "none: no such folder");
  fs::create_directories(saved.path("full"));
  saved.file("full/mine.txt", "keep me");
  EXPECT_SAYS(
      error_of<DataError>([&] { run_export({.from = saved.run(), .to = saved.path("full")}); }),
      "full: already exists");
  EXPECT_EQ(text_of(saved.path("full/mine.txt")), "keep me");
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(saved.folder)) ++entries;
  EXPECT_EQ(entries, 2u);  // run and full
}

}  // namespace
}  // namespace strait
