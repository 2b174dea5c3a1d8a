// What a bad recipe is told: text in, exact messages out.
#include <gtest/gtest.h>

#include "tests/recipes/recipe_text.h"

namespace strait {
namespace {

struct Case {
  std::string text, problems;
};

void expect_problems(const std::vector<Case>& cases) {
  for (const Case& bad : cases) EXPECT_EQ(problems_of(bad.text), bad.problems) << bad.text;
}

TEST(RecipeProblems, TheWholeRecipeHasNone) { EXPECT_EQ(problems_of(kWholeRecipe), "loaded"); }

TEST(RecipeProblems, UnknownKeys) {
  expect_problems({
      {changed("first_k_dense_replace", "first_k_dense_replaced"),
       "x.yaml:5: unknown key 'first_k_dense_replaced' in 'model'; did you mean "
       "'first_k_dense_replace'?"},
      {kWholeRecipe + "ballance:\n  bias_update_speed: 0\n",
       "x.yaml:23: unknown key 'ballance'; did you mean 'balance'?"},
      {kWholeRecipe + "  seed: 1\n",
       "x.yaml:23: unknown key 'seed' in 'data'; did you mean 'train.seed'?"},
      {kWholeRecipe + "beta2: 0.9\n",
       "x.yaml:23: unknown key 'beta2'; did you mean 'optimizer.beta2'?"},
      {kWholeRecipe + "  kind: hdf5\n", "x.yaml:23: unknown key 'kind' in 'data'"},  // two have one
      {kWholeRecipe + "zzz: 1\n", "x.yaml:23: unknown key 'zzz'"},
      {kWholeRecipe + "Model: {}\n", "x.yaml:23: unknown key 'Model'; did you mean 'model'?"},
      {changed("  corpus: corpus", "  corpus: corpus\nmodel.hidden_size: 4"),
       "x.yaml:23: unknown key 'model.hidden_size'"},
      {kWholeRecipe + "<<: {a: 1}\n", "x.yaml:23: unknown key '<<'"},
  });
}

TEST(RecipeProblems, MissingKeys) {
  expect_problems({
      {changed("  vocab_size: 64\n", ""),
       "x.yaml:1: missing key 'model.vocab_size': Rows of the embedding and of the output head."},
      {changed("data:\n  corpus: corpus\n", ""),
       "x.yaml: missing key 'data.corpus': The folder `strait data prepare --out` made, relative "
       "to "
       "where strait is started."},
      {changed("data:\n  corpus: corpus\n", "data: {}\n"),
       "x.yaml:21: missing key 'data.corpus': The folder `strait data prepare --out` made, "
       "relative to "
       "where strait is started."},
      {changed("  peak_lr: 1e-3\n", ""),
       "x.yaml:15: schedule: expected keys with values under it, got nothing\n"
       "x.yaml:15: missing key 'schedule.peak_lr': The learning rate at the end of the warm-up."},
  });
}

TEST(RecipeProblems, WrongTypes) {
  expect_problems({
      {changed("hidden_size: 32", "hidden_size: wide"),
       "x.yaml:3: model.hidden_size: expected a whole number, got 'wide'"},
      {changed("hidden_size: 32", "hidden_size: 32.5"),
       "x.yaml:3: model.hidden_size: expected a whole number, got '32.5'"},
      {changed("hidden_size: 32", "hidden_size: 010"),
       "x.yaml:3: model.hidden_size: expected a whole number, got '010': a number does not start "
       "with "
       "0 (YAML would read it as octal)"},
      {changed("hidden_size: 32", "hidden_size: \"32\""),
       "x.yaml:3: model.hidden_size: expected a whole number, got the quoted text \"32\""},
      {changed("hidden_size: 32", "hidden_size: [32]"),
       "x.yaml:3: model.hidden_size: expected a whole number, got a list"},
      {changed("hidden_size: 32", "hidden_size: {a: 1}"),
       "x.yaml:3: model.hidden_size: expected a whole number, got a mapping"},
      {changed("hidden_size: 32", "hidden_size:"),
       "x.yaml:3: model.hidden_size: expected a whole number, got nothing"},
      {changed("hidden_size: 32", "hidden_size: null"),
       "x.yaml:3: model.hidden_size: expected a whole number, got nothing"},
      {changed("peak_lr: 1e-3", "peak_lr: .nan"),
       "x.yaml:16: schedule.peak_lr: expected a finite number, got '.nan'"},
      {changed("peak_lr: 1e-3", "peak_lr: true"),
       "x.yaml:16: schedule.peak_lr: expected a number, got 'true'"},
      {changed("kv_lora_rank: 16", "kv_lora_rank: 16\n  tie_word_embeddings: yes"),
       "x.yaml:8: model.tie_word_embeddings: expected true or false, got 'yes'"},
      {changed("corpus: corpus", "corpus: [a, b]"),
       "x.yaml:22: data.corpus: expected a text, got a list"},
      {changed("steps: 100", "steps: 100\n  recompute: norms"),
       "x.yaml:19: train.recompute: expected a list, got 'norms'"},
      {changed("steps: 100", "steps: 100\n  recompute: [norms, [swiglu], mlp, norms]"),
       "x.yaml:19: train.recompute: expected a text, got a list\n"
       "x.yaml:19: train.recompute: expected one of norms, mla_up, swiglu, got 'mlp'\n"
       "x.yaml:19: train.recompute: 'norms' is in the list twice"},
      {changed("peak_lr: 1e-3", "peak_lr: 1e-3\n  stages: {until_step: 3}"),
       "x.yaml:17: schedule.stages: expected a list, got a mapping"},
      {changed("peak_lr: 1e-3", "peak_lr: 1e-3\n  stages:\n  - until_stop: 3\n  - 4"),
       "x.yaml:18: unknown key 'until_stop' in 'schedule.stages[0]'; did you mean 'until_step'?\n"
       "x.yaml:19: schedule.stages[1]: expected keys with values under it, got '4'"},
      {kWholeRecipe + "mtp: 0.3\n",
       "x.yaml:23: mtp: expected keys with values under it, got '0.3'"},
      {kWholeRecipe + "mtp: [loss_weight]\n",
       "x.yaml:23: mtp: expected keys with values under it, got a list"},
      {changed("v_head_dim: 8", "v_head_dim: 8\n  rope_scaling: yarn"),
       "x.yaml:11: model.rope_scaling: expected keys with values under it, got 'yarn'"},
      {changed("v_head_dim: 8", "v_head_dim: 8\n  rope_scaling: {type: yarn}"),
       "x.yaml:11: unknown key 'type' in 'model.rope_scaling'"},
  });
}

TEST(RecipeProblems, OutOfRange) {
  expect_problems({
      {changed("hidden_size: 32", "hidden_size: 0"),
       "x.yaml:3: model.hidden_size: 0 channels is out of range (at least 1, at most 1048576)"},
      {changed("steps: 100", "steps: -1"),
       "x.yaml:18: train.steps: -1 steps is out of range (at least 1, at most 1e+12)"},
      {changed("steps: 100", "steps: 1e15"),
       "x.yaml:18: train.steps: 1e15 steps is out of range (at least 1, at most 1e+12)"},
      {changed("steps: 100", "steps: 1e30"),
       "x.yaml:18: train.steps: '1e30' does not fit a 64-bit number"},
      {changed("peak_lr: 1e-3", "peak_lr: 0"),
       "x.yaml:16: schedule.peak_lr: 0 is out of range (above 0, at most 1000)"},
      {kWholeRecipe + "optimizer: {beta1: 1}\n",
       "x.yaml:23: optimizer.beta1: 1 is out of range (at least 0, below 1)"},
      {kWholeRecipe + "parallel: {pipeline: 0}\n",
       "x.yaml:23: parallel.pipeline: 0 positions is out of range (at least 1, at most 1024)"},
      {kWholeRecipe + "parallel: {schedule: gpipe}\n",
       "x.yaml:23: parallel.schedule: expected one of 1f1b, interleaved, zb1p, zbv, dualpipe, "
       "dualpipev, file:PATH, auto, got 'gpipe'"},
      {kWholeRecipe + "optimizer: {name: sgd}\n",
       "x.yaml:23: optimizer.name: expected adamw, got 'sgd'"},
      {changed("steps: 100", "steps: 100\n  precision: fp16"),
       "x.yaml:19: train.precision: expected one of fp32, bf16, fp8, got 'fp16'"},
  });
}

TEST(RecipeProblems, NotARecipe) {
  expect_problems({
      {"", "x.yaml: expected a mapping with sections like 'model:', got nothing"},
      {"# only a remark\n", "x.yaml: expected a mapping with sections like 'model:', got nothing"},
      {"42\n", "x.yaml:1: expected a mapping with sections like 'model:', got '42'"},
      {"\n- model\n", "x.yaml:2: expected a mapping with sections like 'model:', got a list"},
      {"extends: [a]\n", "x.yaml:1: extends: expected a file's name, got a list"},
      {"extends:\n", "x.yaml:1: extends: expected a file's name, got nothing"},
      {kWholeRecipe + "---\n" + kWholeRecipe,
       "x.yaml: a recipe is one YAML document, this file has more (a line '---')"},
  });
}

TEST(RecipeProblems, NotYaml) {
  EXPECT_EQ(problems_of("model: {hidden_size: 4\ntrain: 3\n").substr(0, 21),
            "x.yaml:2:6: not YAML:");
  const std::string tab = problems_of("model:\n\thidden_size: 4\n");
  EXPECT_EQ(tab.substr(0, 9), "x.yaml:2:");
  EXPECT_NE(tab.find("; the line is indented by a tab, YAML wants spaces"), std::string::npos)
      << tab;
  EXPECT_EQ(problems_of("run: \"abc\n").substr(0, 7), "x.yaml:");
}

TEST(RecipeProblems, WhatYamlWouldPassOverInSilence) {
  expect_problems({
      {changed("v_head_dim: 8\n", "v_head_dim: 8\n  hidden_size: 64\n"),
       "x.yaml:11: key 'hidden_size' is here a second time; the first is at x.yaml:3"},
      {kWholeRecipe + "train:\n  seed: 3\n",
       "x.yaml:23: key 'train' is here a second time; the first is at x.yaml:17"},
      {changed("hidden_size: 32", "hidden_size: &a 32"),
       "x.yaml:3: a recipe has no anchors (&name); use extends or say it again"},
      {changed("hidden_size: 32", "hidden_size: !!int 32"),
       "x.yaml:3: a recipe has no tags, got tag:yaml.org,2002:int"},
      {kWholeRecipe + "? [a, b]\n: 1\n",
       "x.yaml:23: a key must be a word, not a list or a mapping"},
      {kWholeRecipe + "\"\": 1\n", "x.yaml:23: expected a key before the ':', got nothing"},
      {kWholeRecipe + "run: {name: &a r, dir: *a}\n",
       "x.yaml:23: a recipe has no anchors (&name); use extends or say it again\n"
       "x.yaml:23: a recipe has no aliases (*name); use extends or say it again\n"
       "x.yaml:23: run.dir: expected a text, got nothing"},
  });
}

TEST(RecipeProblems, AllAtOnceInTheFilesOrder) {
  std::string text = changed("hidden_size: 32", "hidden_size: x");
  text.replace(text.find("global_batch: 8"), 15, "global_bach: 8 ");
  EXPECT_EQ(problems_of(text, {"optimizer.eps=0", "nonsense", "run.name="}),
            "--set nonsense: expected section.key=value\n"
            "x.yaml:3: model.hidden_size: expected a whole number, got 'x'\n"
            "x.yaml:19: unknown key 'global_bach' in 'train'; did you mean 'global_batch'?\n"
            "x.yaml:17: missing key 'train.global_batch': Sequences of one step, over all ranks.\n"
            "--set optimizer.eps=0: optimizer.eps: 0 is out of range (above 0, at most 1)\n"
            "--set run.name=: run.name: expected a text, got nothing");
}

TEST(RecipeProblems, Overrides) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"model.hidden_size=abc", "model.hidden_size: expected a whole number, got 'abc'"},
      {"model.hiden_size=4", "unknown key 'hiden_size' in 'model'; did you mean 'hidden_size'?"},
      {"modell.hidden_size=4", "unknown key 'modell'; did you mean 'model'?"},
      {"steps=4", "unknown key 'steps'; did you mean 'train.steps'?"},
      {"train=4", "train: expected keys with values under it, got '4'"},
      {"train.steps.more=4", "train.steps: expected a whole number, got a mapping"},
      {"train.steps", "expected section.key=value"},
      {"=4", "expected section.key=value"},
      {".steps=4", "expected section.key=value"},
      {"train..steps=4", "expected section.key=value"},
      {"train.=4", "expected section.key=value"},
      {"extends=other.yaml", "unknown key 'extends'"},
      {"train.recompute=[norms", "not YAML"},
  };
  for (const auto& [override, problem] : cases) {
    const std::string got = problems_of(kWholeRecipe, {override});
    if (problem == "not YAML") {
      EXPECT_EQ(got.rfind("--set " + override, 0), 0u) << got;
      EXPECT_NE(got.find("not YAML: "), std::string::npos) << got;
    } else {
      EXPECT_EQ(got, "--set " + override + ": " + problem);
    }
  }
}

// Whatever the bytes are, the answer is a recipe or a RecipeError.
TEST(RecipeProblems, DamagedTextEndsInAnAnswer) {
  uint64_t state = 1;
  const auto next = [&state](size_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % below;
  };
  const std::string bytes = ":-{}[]&*!|>'\"%@`#?,\n\t \\0aZ\x80\xff";
  int refused = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string text = kWholeRecipe;
    for (size_t i = 0, changes = 1 + next(4); i < changes; ++i)
      text[next(text.size())] = bytes[next(bytes.size())];
    refused += problems_of(text) == "loaded" ? 0 : 1;
  }
  EXPECT_GT(refused, 300);
}

TEST(RecipeProblems, DeepNestingIsRefused) {
  for (const char* open : {"[", "{a: "}) {
    std::string text = "model: ";
    for (int i = 0; i < 100'000; ++i) text += open;
    EXPECT_NE(problems_of(text).find("not YAML"), std::string::npos);
  }
}

}  // namespace
}  // namespace strait
