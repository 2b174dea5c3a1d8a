// to_yaml: what it writes loads back to an equal recipe.
#include <gtest/gtest.h>

#include "tests/recipes/recipe_text.h"

namespace strait {
namespace {

void expect_same_after_writing(const Recipe& recipe) {
  const std::string text = to_yaml(recipe);
  const Recipe again = read_recipe(text, "written.yaml");
  EXPECT_TRUE(again == recipe) << text;
  EXPECT_EQ(to_yaml(again), text);
}

TEST(Write, ShippedRecipesLoadBackEqual) {
  for (const char* name : {"quickstart", "bench", "deepseek-v3", "deepseek-v2", "deepseek-v2-lite"})
    expect_same_after_writing(load_recipe(std::string(STRAIT_RECIPES "/") + name + ".yaml"));
}

TEST(Write, RecipesDifferWhenOneKeyDoes) {
  const Recipe one = read_recipe(kWholeRecipe, "x.yaml");
  EXPECT_TRUE(one == read_recipe(kWholeRecipe, "x.yaml", {"train.seed=1"}));
  for (const char* change :
       {"train.seed=2", "model.rope_scaling.mscale=2", "model.rope_theta=5", "train.recompute=[]",
        "mtp.loss_weight=0", "balance.sequence_loss_alpha=0", "optimizer.eps=1e-9", "data.corpus=c",
        "parallel.expert=2", "run.dir=r", "schedule.min_lr=1e-4"})
    EXPECT_FALSE(one == read_recipe(kWholeRecipe, "x.yaml", {change})) << change;
}

TEST(Write, EveryNumberKeepsItsBits) {
  Recipe recipe = read_recipe(kWholeRecipe, "x.yaml");
  recipe.schedule.peak_lr = 0.1 + 0.2;
  recipe.optimizer.eps = 4.9406564584124654e-324;
  recipe.optimizer.weight_decay = 1.0 / 3;
  recipe.optimizer.grad_clip_norm = 123456789012.0;
  recipe.model.rope_theta = 1e12;
  recipe.train.seed = 9007199254740991;
  expect_same_after_writing(recipe);
}

TEST(Write, AnyTextLoadsBack) {
  Recipe recipe = read_recipe(kWholeRecipe, "x.yaml");
  for (const char* text : {"plain",
                           "null",
                           "NULL",
                           "~",
                           "true",
                           "010",
                           "1e3",
                           " spaces ",
                           "a: b",
                           "a #b",
                           "- a",
                           "\"quoted\"",
                           "back\\slash",
                           "new\nline",
                           "tab\t",
                           "\x01\x7f",
                           "*a",
                           "{a",
                           "gr\xc3\xb6\xc3\x9f"
                           "e",
                           "&a",
                           "!tag",
                           "---",
                           "%",
                           "@",
                           "'"}) {
    recipe.data.corpus = text;
    recipe.run.dir = text;
    expect_same_after_writing(recipe);
  }
}

TEST(Write, ListsLoadBack) {
  Recipe recipe = read_recipe(kWholeRecipe, "x.yaml");
  recipe.train.recompute = {};
  recipe.schedule.kind = "multi_stage";
  recipe.schedule.stages = {{.until_step = 10, .shape = "cosine", .lr_multiplier = 0.3},
                            {.until_fraction = 0.7},
                            {.until_step = 100, .lr_multiplier = 0}};
  expect_same_after_writing(recipe);
}

TEST(Write, WritesEverySectionInOrder) {
  const std::string text = to_yaml(read_recipe(kWholeRecipe, "x.yaml"));
  EXPECT_EQ(text.rfind("model:\n  vocab_size: 64\n  hidden_size: 32\n", 0), 0u) << text;
  EXPECT_NE(text.find("  rope_scaling:\n    factor: 1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  recompute: [norms, mla_up, swiglu]\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\nrun:\n  name: x\n  dir: run\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace strait
