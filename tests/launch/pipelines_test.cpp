// tests/launch/pipelines_test.cpp: training under every schedule on 1, 2 and 4 pipeline positions
// against one rank.
#include <gtest/gtest.h>

#include <algorithm>

#include "launch/commands/verify_report.h"
#include "tests/launch/tiny_verify.h"

namespace strait {
namespace {

using test::tiny_recipe;
using test::verify_on;

// Sequences of the global batch: every position's column runs eight micro-batches of one.
Recipe recipe_of(const std::string& schedule, int pipeline, int expert, int data, bool pairs,
                 const std::string& precision = "fp32") {
  Recipe recipe = tiny_recipe(expert, precision);
  const bool two_chunks = schedule == "interleaved" || schedule == "zbv" || schedule == "dualpipev";
  // Uneven: no number of layers, the MTP module counted, divides by the stages.
  recipe.model.num_hidden_layers = std::max(3, pipeline * (two_chunks ? 2 : 1) + 1);
  recipe.train.global_batch = 8 * data;
  recipe.parallel.pipeline = pipeline;
  recipe.parallel.schedule = schedule;
  recipe.parallel.pairs = pairs;
  return recipe;
}

void expect_gates_hold(const Recipe& recipe, int ranks, int ranks_per_node = 0) {
  const VerifyReport report =
      verify_on(ranks, recipe, {.steps = 2, .free_steps = 0}, ranks_per_node);
  EXPECT_TRUE(report.passed()) << to_table(report);
  for (const Gate& gate : report.gates) EXPECT_TRUE(gate.seen) << gate.name;
}

struct Case {
  const char* schedule;
  int pipeline, expert, replicas = 1;
  bool pairs = false;
  int waves = 1, ranks_per_node = 0;  // 0: all ranks are on one node
};

class Pipelines : public testing::TestWithParam<Case> {};

TEST_P(Pipelines, GatesHold) {
  const Case& c = GetParam();
  const int data = c.expert * c.replicas;
  Recipe recipe = recipe_of(c.schedule, c.pipeline, c.expert, data, c.pairs);
  recipe.parallel.waves = c.waves;
  expect_gates_hold(recipe, c.pipeline * data, c.ranks_per_node);
}

INSTANTIATE_TEST_SUITE_P(
    Local, Pipelines,
    testing::Values(Case{"1f1b", 2, 1}, Case{"1f1b", 2, 2}, Case{"1f1b", 2, 1, 2},
                    Case{"1f1b", 4, 2}, Case{"interleaved", 2, 1}, Case{"interleaved", 2, 2},
                    Case{"zb1p", 1, 2}, Case{"zb1p", 2, 2}, Case{"zb1p", 4, 1}, Case{"zbv", 2, 1},
                    Case{"zbv", 2, 2}, Case{"dualpipe", 2, 1}, Case{"dualpipe", 2, 2, 2},
                    Case{"dualpipe", 4, 2}, Case{"dualpipev", 2, 2}, Case{"dualpipev", 4, 1},
                    Case{"1f1b", 1, 2, 1, true}, Case{"1f1b", 2, 2, 1, true},
                    Case{"interleaved", 2, 2, 1, true}, Case{"1f1b", 1, 2, 1, false, 2},
                    Case{"1f1b", 1, 4, 1, true, 2}, Case{"zb1p", 2, 2, 1, false, 4},
                    Case{"dualpipe", 2, 2, 1, false, 2}, Case{"1f1b", 1, 4, 1, false, 2, 2},
                    Case{"1f1b", 1, 4, 1, true, 2, 2}, Case{"1f1b", 2, 4, 1, true, 2, 2},
                    Case{"dualpipe", 2, 4, 1, false, 2, 2}),
    [](const auto& info) {
      const Case& c = info.param;
      return std::string(c.schedule) + "Pipeline" + std::to_string(c.pipeline) + "Expert" +
             std::to_string(c.expert) + (c.replicas > 1 ? "Replicas" : "") +
             (c.pairs ? "Pairs" : "") + (c.waves > 1 ? "Waves" + std::to_string(c.waves) : "") +
             (c.ranks_per_node > 0 ? "TwoTier" : "");
    });

TEST(PipelinesModel, SharedEmbeddingAndHead) {
  for (const char* schedule : {"1f1b", "dualpipe"}) {
    Recipe recipe = recipe_of(schedule, 2, 2, 2, false);
    recipe.model.tie_word_embeddings = true;
    expect_gates_hold(recipe, 4);
  }
}

TEST(PipelinesModel, SoftmaxGatesWithoutMtp) {
  Recipe recipe = recipe_of("zbv", 2, 2, 2, false);
  recipe.model.scoring_func = "softmax";
  recipe.model.topk_method = "group_limited_greedy";
  recipe.model.num_nextn_predict_layers = 0;
  recipe.balance.bias_update_speed = 0;
  expect_gates_hold(recipe, 4);
}

// Four times the sequences: with fewer, BF16's noise in one of MTP's norms reaches the gate on some
// instruction sets.
TEST(PipelinesModel, Bf16) {
  Recipe recipe = recipe_of("dualpipev", 2, 2, 2, false, "bf16");
  recipe.train.global_batch *= 4;
  expect_gates_hold(recipe, 4);
}

TEST(PipelinesModel, Fp8) {
  Recipe recipe = recipe_of("dualpipev", 2, 2, 2, false, "fp8");
  recipe.train.global_batch *= 4;
  expect_gates_hold(recipe, 4);
}

}  // namespace
}  // namespace strait
