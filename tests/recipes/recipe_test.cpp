#include "recipes/recipe.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "recipes/check.h"
#include "tests/recipes/recipe_text.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

// A folder of recipes, removed at the end.
class RecipeFiles : public testing::Test {
 protected:
  RecipeFiles()
      : folder_(fs::temp_directory_path() / ("strait_recipe_test_" + std::to_string(getpid()))) {
    fs::create_directories(folder_ / "inner");
  }
  ~RecipeFiles() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  // The error's text with the folder's name taken out.
  std::string problems(const std::string& path, const std::vector<std::string>& overrides = {}) {
    std::string text = "loaded";
    try {
      load_recipe(path, overrides);
    } catch (const RecipeError& error) {
      text = error.what();
    }
    const std::string folder = folder_.string() + "/";
    for (size_t at = 0; (at = text.find(folder)) != std::string::npos;)
      text.erase(at, folder.size());
    return text;
  }

  const fs::path folder_;
};

TEST(Recipe, ReadsValuesAndKeepsDefaults) {
  const Recipe recipe = read_recipe(kWholeRecipe, "small.yaml");
  EXPECT_EQ(recipe.model.vocab_size, 64);
  EXPECT_EQ(recipe.model.num_experts_per_tok, 2);
  EXPECT_EQ(recipe.model.scoring_func, "sigmoid");
  EXPECT_EQ(recipe.model.rope_scaling.factor, 1);
  EXPECT_EQ(recipe.schedule.peak_lr, 1e-3);
  EXPECT_EQ(recipe.optimizer.beta2, 0.95);
  EXPECT_EQ(recipe.train.precision, "bf16");
  EXPECT_EQ(recipe.run.name, "small");
  EXPECT_EQ(recipe.places.of("model.vocab_size"), "small.yaml:2");
  EXPECT_EQ(recipe.places.of("model.rope_theta"), "small.yaml:1");
  EXPECT_EQ(recipe.places.of("optimizer.beta1"), "small.yaml");
}

TEST(Recipe, ReadsEveryTypeOfKey) {
  const Recipe recipe = read_recipe(kWholeRecipe +
                                        "run: {name: \"a b\", dir: 2024}\n"
                                        "optimizer:\n  grad_clip_norm: 1_000.5\n",
                                    "x.yaml",
                                    {"model.tie_word_embeddings=true",
                                     "train.recompute=[norms, swiglu]", "schedule.kind=multi_stage",
                                     "schedule.stages=[{until_step: 50}, {until_fraction: 1, "
                                     "lr_multiplier: 0.5, shape: cosine}]",
                                     "data.corpus=/a: b/c"});
  EXPECT_TRUE(recipe.model.tie_word_embeddings);
  EXPECT_EQ(recipe.run.name, "a b");
  EXPECT_EQ(recipe.run.dir, "2024");
  EXPECT_EQ(recipe.optimizer.grad_clip_norm, 1000.5);
  EXPECT_EQ(recipe.train.recompute, (std::vector<std::string>{"norms", "swiglu"}));
  ASSERT_EQ(recipe.schedule.stages.size(), 2u);
  EXPECT_EQ(recipe.schedule.stages[0].until_step, 50);
  EXPECT_EQ(recipe.schedule.stages[1].shape, "cosine");
  EXPECT_EQ(recipe.schedule.stages[1].lr_multiplier, 0.5);
  EXPECT_EQ(recipe.data.corpus, "/a: b/c");
}

TEST(Recipe, OverridesApplyInOrder) {
  const Recipe recipe = read_recipe(
      kWholeRecipe, "x.yaml",
      {"train.steps=7", "train.steps=9", "optimizer.beta1=0.8", "model.rope_scaling.mscale=2"});
  EXPECT_EQ(recipe.train.steps, 9);
  EXPECT_EQ(recipe.optimizer.beta1, 0.8);
  EXPECT_EQ(recipe.model.rope_scaling.mscale, 2);
  EXPECT_EQ(recipe.places.of("train.steps"), "--set train.steps=9");
}

TEST_F(RecipeFiles, ExtendsMergesMappingsAndReplacesTheRest) {
  write("base.yaml", kWholeRecipe + "  # nothing more\n");
  write("inner/middle.yaml",
        "extends: ../base.yaml\n"
        "train:\n"
        "  steps: 200\n"
        "  recompute: [norms]\n");
  const std::string path = write("top.yaml",
                                 "extends: inner/middle.yaml\n"
                                 "train:\n"
                                 "  recompute: [swiglu]\n"
                                 "run:\n"
                                 "  dir: elsewhere\n");
  const Recipe recipe = load_recipe(path, {"train.global_batch=16"});
  EXPECT_EQ(recipe.train.steps, 200);
  EXPECT_EQ(recipe.train.recompute, std::vector<std::string>{"swiglu"});
  EXPECT_EQ(recipe.train.sequence_length, 32);
  EXPECT_EQ(recipe.train.global_batch, 16);
  EXPECT_EQ(recipe.run.dir, "elsewhere");
  EXPECT_EQ(recipe.run.name, "top");
  EXPECT_EQ(recipe.places.of("train.steps"), (folder_ / "inner/middle.yaml").string() + ":3");
  EXPECT_EQ(recipe.places.of("model.hidden_size"), (folder_ / "base.yaml").string() + ":3");
}

TEST_F(RecipeFiles, ProblemsInAnExtendedRecipeNameItsFile) {
  write("base.yaml", changed("hidden_size: 32", "hiden_size: 32"));
  const std::string path = write("top.yaml", "extends: base.yaml\ntrain:\n  stepps: 1\n");
  EXPECT_EQ(problems(path),
            "base.yaml:3: unknown key 'hiden_size' in 'model'; did you mean 'hidden_size'?\n"
            "base.yaml:1: missing key 'model.hidden_size': Width of the residual stream.\n"
            "top.yaml:3: unknown key 'stepps' in 'train'; did you mean 'steps'?");
}

TEST_F(RecipeFiles, RefusesCircles) {
  const std::string path = write("a.yaml", "extends: b.yaml\n");
  write("b.yaml", "run: {name: b}\nextends: inner/../a.yaml\n");
  EXPECT_EQ(
      problems(path),
      "b.yaml:2: extends: the recipes extend each other in a circle: a.yaml -> b.yaml -> a.yaml");
  EXPECT_EQ(
      problems(write("self.yaml", "extends: self.yaml\n")),
      "self.yaml:1: extends: the recipes extend each other in a circle: self.yaml -> self.yaml");
}

TEST_F(RecipeFiles, AMissingBaseDoesNotHideOtherProblems) {
  const std::string path = write("a.yaml", "extends: gone.yaml\nmodel:\n  hiden_size: 1\n");
  EXPECT_EQ(problems(path, {"train.steps=x"}),
            "a.yaml:1: cannot read recipe gone.yaml: No such file or directory\n"
            "a.yaml:3: unknown key 'hiden_size' in 'model'; did you mean 'hidden_size'?\n"
            "--set train.steps=x: train.steps: expected a whole number, got 'x'");
}

TEST_F(RecipeFiles, RefusesFilesItCannotRead) {
  EXPECT_EQ(problems((folder_ / "no.yaml").string()),
            "no.yaml: cannot be read: No such file or directory");
  EXPECT_EQ(problems((folder_ / "inner").string()), "inner: cannot be read: it is a folder");
  EXPECT_EQ(problems(write("big.yaml", std::string((1 << 20) + 1, '#'))),
            "big.yaml: cannot be read: more than 1048576 bytes");
}

struct Sizes {
  double all = 0, active = 0;  // active: output head and MTP counted, rows of the embedding not
};

// By the published shapes (norms and biases left out).
Sizes sizes_of(const ModelSettings& m) {
  const double hidden = double(m.hidden_size), heads = double(m.num_attention_heads);
  const double qk = double(m.qk_nope_head_dim + m.qk_rope_head_dim), v = double(m.v_head_dim);
  const double q =
      m.q_lora_rank > 0 ? double(m.q_lora_rank) * (hidden + heads * qk) : hidden * heads * qk;
  const double kv = hidden * double(m.kv_lora_rank + m.qk_rope_head_dim) +
                    double(m.kv_lora_rank) * heads * double(m.qk_nope_head_dim + m.v_head_dim);
  const double attention = q + kv + heads * v * hidden;
  const double dense = 3 * hidden * double(m.intermediate_size);
  const double expert = 3 * hidden * double(m.moe_intermediate_size);
  const double router = hidden * double(m.n_routed_experts), vocab = hidden * double(m.vocab_size);
  const double moe_layers =
      double(m.num_hidden_layers - m.first_k_dense_replace + m.num_nextn_predict_layers);
  const double rest = double(m.num_hidden_layers + m.num_nextn_predict_layers) * attention +
                      double(m.first_k_dense_replace) * dense + moe_layers * router + vocab +
                      double(m.num_nextn_predict_layers) * 2 * hidden * hidden;
  return {
      .all = vocab + rest + moe_layers * expert * double(m.n_routed_experts + m.n_shared_experts),
      .active = rest + moe_layers * expert * double(m.num_experts_per_tok + m.n_shared_experts)};
}

TEST(ShippedRecipes, Load) {
  int found = 0;
  for (const auto& entry : fs::directory_iterator(STRAIT_RECIPES)) {
    if (entry.path().extension() != ".yaml") continue;
    ++found;
    SCOPED_TRACE(entry.path());
    const Recipe recipe = load_recipe(entry.path().string());
    EXPECT_EQ(recipe.run.name, entry.path().stem());
    EXPECT_NO_THROW(check_plan_layout(recipe, recipe.parallel.expert * recipe.parallel.pipeline));
  }
  EXPECT_EQ(found, 5);
}

TEST(ShippedRecipes, PublishedLayouts) {
  const Recipe v3 = load_recipe(STRAIT_RECIPES "/deepseek-v3.yaml");
  EXPECT_NO_THROW(check_plan_layout(v3, 2048));
  EXPECT_EQ(num_microbatches(v3, 2048), 120);
  EXPECT_EQ(v3.parallel.schedule, "dualpipe");
  EXPECT_EQ(v3.parallel.pipeline * v3.parallel.expert, 1024);
  EXPECT_NEAR(double(v3.train.steps * v3.train.global_batch * v3.train.sequence_length), 14.8e12,
              1e8);
  const Recipe v2 = load_recipe(STRAIT_RECIPES "/deepseek-v2.yaml");
  EXPECT_NEAR(double(v2.train.steps * v2.train.global_batch * v2.train.sequence_length), 8.1e12,
              1e8);
  // What trains: the small ones.
  for (const char* name : {"quickstart", "bench", "deepseek-v2-lite"}) {
    const Recipe recipe = load_recipe(std::string(STRAIT_RECIPES "/") + name + ".yaml");
    EXPECT_NO_THROW(check_layout(recipe, recipe.parallel.expert)) << name;
  }
}

TEST(ShippedRecipes, HaveTheSizesTheySay) {
  const auto sizes = [](const std::string& name) {
    return sizes_of(load_recipe(STRAIT_RECIPES "/" + name + ".yaml").model);
  };
  const Sizes quickstart = sizes("quickstart");
  EXPECT_GT(quickstart.all, 12e6);
  EXPECT_LT(quickstart.all, 20e6);
  EXPECT_GT(quickstart.active, 4e6);
  EXPECT_LT(quickstart.active, 7e6);
  const Sizes lite = sizes("deepseek-v2-lite");
  EXPECT_NEAR(lite.all, 15.7e9, 0.05e9);
  const Sizes v2 = sizes("deepseek-v2");
  EXPECT_NEAR(v2.all, 236e9, 0.5e9);
  EXPECT_NEAR(v2.active, 21e9, 0.5e9);
  // The published counts: 671 B and 36.6 B active, without MTP.
  ModelSettings v3 = load_recipe(STRAIT_RECIPES "/deepseek-v3.yaml").model;
  v3.num_nextn_predict_layers = 0;
  EXPECT_NEAR(sizes_of(v3).all, 671.0e9, 0.1e9);
  EXPECT_NEAR(sizes_of(v3).active, 36.62e9, 0.01e9);
  // The MTP module's own, published as 11.5 B: that is without the projection of both inputs.
  const double projection = 2.0 * 7168 * 7168;
  EXPECT_NEAR(sizes("deepseek-v3").all - sizes_of(v3).all - projection, 11.5e9, 0.05e9);
}

TEST(ShippedRecipes, QuickstartIsOnePassOverAboutTwoMillionTokens) {
  const TrainSettings train = load_recipe(STRAIT_RECIPES "/quickstart.yaml").train;
  EXPECT_NEAR(double(train.steps * train.global_batch * train.sequence_length), 2.3e6, 0.1e6);
}

}  // namespace
}  // namespace strait
