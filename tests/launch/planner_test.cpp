#include "launch/plan/planner.h"

#include <gtest/gtest.h>

#include "core/errors.h"
#include "launch/commands/plan.h"
#include "launch/plan/plan_report.h"
#include "launch/plan/search.h"
#include "parallel/program/validate.h"
#include "recipes/cluster.h"

namespace strait {
namespace {

Recipe recipe_of(const char* name, const std::vector<std::string>& overrides = {}) {
  return load_recipe(std::string(STRAIT_SOURCE_DIR "/recipes/") + name, overrides);
}

// 16 ranks in two nodes, so that a search takes seconds.
Cluster small_cluster() {
  Cluster cluster = load_cluster("h800-2048");
  cluster.nodes = 2;
  return cluster;
}
Planner small_planner(double memory_bytes = 80e9) {
  Cluster cluster = small_cluster();
  cluster.memory = memory_bytes;
  return Planner(recipe_of("deepseek-v2-lite.yaml", {"train.global_batch=64"}), cluster, {});
}

TEST(Planner, PublishedLayoutIsAProvenProgram) {
  Planner planner(recipe_of("deepseek-v3.yaml"), load_cluster("h800-2048"),
                  {.precision = Precision::fp8});
  const PlannedStep step = planner.plan(layout_of(planner.recipe()));
  EXPECT_EQ(step.layout.schedule, "dualpipe");
  EXPECT_EQ(step.ranks, 2048);
  EXPECT_EQ(step.num_microbatches, 120);
  EXPECT_EQ(step.programs.size(), 16u);
  const auto problems = validate(step.shape, step.schedule, step.programs, true);
  EXPECT_TRUE(problems.empty()) << problems.front().text;
  EXPECT_GT(step.skewed_seconds, step.figures.seconds);
  EXPECT_GE(step.figures.seconds, planner.least_seconds(step.layout));
}

TEST(Planner, FiguresAddUp) {
  Planner planner = small_planner();
  for (const PlanLayout& layout :
       {PlanLayout{.pipeline = 1, .expert = 16},
        PlanLayout{.pipeline = 4, .expert = 4, .schedule = "zb1p"},
        PlanLayout{.pipeline = 2, .expert = 8, .pairs = true, .waves = 2}}) {
    const PlannedStep step = planner.plan(layout);
    const LaneAccount& a = step.figures.account;
    EXPECT_NEAR(a.compute_seconds + a.exposed_seconds + a.idle_seconds, step.figures.seconds,
                1e-9 * step.figures.seconds)
        << to_string(layout);
    EXPECT_NEAR(a.hidden_seconds + a.exposed_seconds, a.transfer_seconds,
                1e-9 * a.transfer_seconds);
    EXPECT_GE(step.figures.seconds, planner.least_seconds(layout));
    EXPECT_TRUE(validate(step.shape, step.schedule, step.programs, true).empty());
    EXPECT_GT(step.figures.memory.total(), planner.resident_bytes(layout));
  }
}

// A long step is a short one and so many times what a further micro-batch adds.
TEST(Planner, EstimatesAreCloseToWholePlans) {
  Planner planner(recipe_of("deepseek-v2-lite.yaml", {"train.global_batch=256"}), small_cluster(),
                  {});
  for (const PlanLayout& layout :
       {PlanLayout{.pipeline = 1, .expert = 8, .pairs = true},
        PlanLayout{.pipeline = 4, .expert = 4, .schedule = "dualpipe"},
        PlanLayout{.pipeline = 2, .expert = 8, .schedule = "interleaved", .chunks = 2}}) {
    const StepFigures estimate = planner.estimate(layout), whole = planner.plan(layout).figures;
    EXPECT_NEAR(estimate.seconds, whole.seconds, 0.03 * whole.seconds) << to_string(layout);
    EXPECT_NEAR(estimate.far_bytes, whole.far_bytes, 1e-6 * whole.far_bytes);
    EXPECT_NEAR(double(estimate.memory.total()), double(whole.memory.total()),
                0.01 * double(whole.memory.total()));
  }
}

// Nothing is left behind by a micro-batch, wherever stages are cut: the peak of a long step is that
// of a short one.
TEST(Planner, MemoryDoesNotGrowWithMicroBatches) {
  for (const char* layout :
       {"parallel.pipeline=32", "parallel.pipeline=16", "parallel.pipeline=8"}) {
    std::vector<int64_t> peaks;
    for (const char* batch : {"train.global_batch=7680", "train.global_batch=15360"}) {
      Planner planner(recipe_of("deepseek-v3.yaml", {layout, batch, "parallel.expert=32"}),
                      load_cluster("h800-2048"), {});
      peaks.push_back(planner.plan(layout_of(planner.recipe())).figures.memory.total());
    }
    EXPECT_EQ(peaks[0], peaks[1]) << layout;
  }
}

TEST(Search, FindsWhatTryingEverythingFinds) {
  Planner planner = small_planner();
  const Search search = search_layouts(planner);
  ASSERT_FALSE(search.fitting.empty());
  const Candidate& best = search.fitting.front();
  EXPECT_EQ(planner.plan(best.layout).figures.seconds, best.figures.seconds);
  // Layouts of its own kind and of others: none is faster.
  for (const int64_t pipeline : {1, 2, 4})
    for (const int64_t expert : {2, 4, 8, 16})
      for (const char* schedule : {"1f1b", "zb1p"})
        for (const bool pairs : {false, true}) {
          const PlanLayout layout{
              .pipeline = pipeline, .expert = expert, .schedule = schedule, .pairs = pairs};
          try {
            const StepFigures figures = planner.estimate(layout);
            if (figures.memory.total() <= planner.usable_memory()) {
              EXPECT_GE(figures.seconds, best.figures.seconds) << to_string(layout);
            }
          } catch (const RecipeError&) {
            // It does not fit the ranks.
          }
        }
  for (size_t i = 1; i < search.fitting.size(); ++i)
    EXPECT_LE(search.fitting[i - 1].figures.seconds, search.fitting[i].figures.seconds);
}

TEST(Search, SaysWhatTheSmallestNeedsWhereNothingFits) {
  Planner planner = small_planner(1e9);
  const Search search = search_layouts(planner);
  EXPECT_TRUE(search.fitting.empty());
  EXPECT_GT(search.num_too_large, 0);
  EXPECT_GT(search.smallest.figures.memory.total(), planner.usable_memory());
  const std::string text = to_text(
      {.planner = &planner, .question = {.tokens = 1e9}, .why_not_asked = "", .search = &search});
  EXPECT_NE(text.find("none fits"), std::string::npos) << text;
}

TEST(Search, NarrowestLinkIsWhereTheStepBeginsToGrow) {
  Planner planner = small_planner();
  const PlanLayout layout{.pipeline = 1, .expert = 16, .pairs = true};
  const SteadyState steady = planner.steady_state(layout);
  const NarrowestLink link = narrowest_link(planner, layout);
  ASSERT_GT(link.card, 0);
  ASSERT_GT(link.fabric, 0);
  const auto seconds_at = [&](double card, double fabric) {
    Cluster cluster = planner.cluster();
    cluster.card_bandwidth = card;
    cluster.fabric_bandwidth = fabric;
    return planner.seconds_on(cluster, steady);
  };
  const double endless = seconds_at(1000 * planner.cluster().card_bandwidth,
                                    1000 * planner.cluster().fabric_bandwidth);
  // Both hold together, and neither could be narrower with the other at the same share.
  EXPECT_LE(seconds_at(link.card, link.fabric), 1.0201 * endless);
  EXPECT_GT(seconds_at(link.card / 1.05, link.fabric / 1.05), 1.02 * endless);
  // Nothing crosses nodes: no link is needed.
  Planner one(recipe_of("deepseek-v2-lite.yaml", {"train.global_batch=64"}), small_cluster(),
              {.ranks = 1});
  const NarrowestLink none = narrowest_link(one, {.pipeline = 1, .expert = 1});
  EXPECT_EQ(none.card, 0);
  EXPECT_EQ(none.fabric, 0);
}

// A token with experts in several waves of a rank or a node crosses to it in each of them.
TEST(Planner, WavesSendMoreBytes) {
  Planner planner = small_planner();
  const auto step_with = [&](int64_t waves) {
    return planner.plan({.pipeline = 1, .expert = 16, .waves = waves});
  };
  const PlannedStep whole = step_with(1), waves = step_with(2);
  EXPECT_GT(waves.work.ranks_of_token, whole.work.ranks_of_token);
  EXPECT_GT(waves.work.nodes_of_token, 1.3 * whole.work.nodes_of_token);
  // Gradients and weights cross as before.
  const auto exchanged = [](const PlannedStep& step) {
    double bytes = 0;
    for (size_t i = 0; i < step.programs[0].tasks.size(); ++i) {
      const Kind kind = step.programs[0].tasks[i].kind;
      if (kind == Kind::dispatch || kind == Kind::combine) bytes += step.costs[0][i].bytes_far;
    }
    return bytes;
  };
  const double rows = whole.work.two_tier ? waves.work.nodes_of_token / whole.work.nodes_of_token
                                          : waves.work.ranks_of_token / whole.work.ranks_of_token;
  EXPECT_NEAR(exchanged(waves) / exchanged(whole), rows, 0.01 * rows);  // ids cross once
}

TEST(Plan, RunFiguresFollowTheirDefinition) {
  Planner planner(recipe_of("deepseek-v3.yaml"), load_cluster("h800-2048"), {});
  // The published step: 19.926 s are 272.8 B tokens a day and an MFU of 38.94%, with causal
  // attention.
  const RunFigures run = run_figures(planner, 19.926, {.tokens = 1e12, .price = 2});
  EXPECT_NEAR(run.tokens_per_second * 86400, 272.8e9, 0.05e9);
  EXPECT_NEAR(run.mfu, 0.3894, 0.0015);
  EXPECT_NEAR(run.rank_hours, 180.2e3, 0.1e3);
  EXPECT_DOUBLE_EQ(run.dollars, 2 * run.rank_hours);
}

TEST(Plan, ReadsTokens) {
  EXPECT_EQ(read_tokens("14.8T"), 14.8e12);
  EXPECT_EQ(read_tokens("500B"), 500e9);
  EXPECT_EQ(read_tokens("2.3M"), 2.3e6);
  EXPECT_EQ(read_tokens("4096"), 4096);
  for (const char* wrong : {"", "T", "14.8 T", "-3B", "1e400", "12X", "0"})
    EXPECT_THROW(read_tokens(wrong), RecipeError);
}

}  // namespace
}  // namespace strait
