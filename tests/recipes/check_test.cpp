#include "recipes/check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "parallel/pipeline/schedule_file.h"
#include "recipes/cluster.h"
#include "tests/recipes/recipe_text.h"

namespace strait {
namespace {

// Overrides on the whole recipe, and what the check says. The last override is the place unless
// `place` is given.
struct Case {
  std::vector<std::string> overrides;
  std::string problem;
  std::string place = {};
};

TEST(Check, RulesBetweenKeys) {
  const std::vector<Case> cases = {
      {{"model.qk_rope_head_dim=3"},
       "model.qk_rope_head_dim: 3 is odd, but RoPE turns channels in pairs"},
      {{"model.rope_scaling.factor=4", "model.rope_scaling.beta_fast=1"},
       "model.rope_scaling.beta_fast: 1 must be above beta_slow = 1"},
      {{"model.rope_scaling.factor=4", "model.max_position_embeddings=2048"},
       "model.rope_scaling.original_max_position_embeddings: 4096 is more than "
       "max_position_embeddings = 2048",
       "--set model.rope_scaling.factor=4"},
      {{"model.first_k_dense_replace=4"},
       "model.first_k_dense_replace: 4 is more than num_hidden_layers = 3"},
      {{"model.intermediate_size=0"},
       "model.intermediate_size: must be set: the model has dense layers"},
      {{"model.moe_intermediate_size=0"},
       "model.moe_intermediate_size: must be set: the model has experts"},
      {{"model.num_experts_per_tok=0"},
       "model.num_experts_per_tok: must be set: the model has experts"},
      {{"model.num_experts_per_tok=0", "model.n_routed_experts=0", "parallel.expert=2"},
       "parallel.expert: 2 ranks share the experts, but n_routed_experts is 0"},
      {{"model.n_routed_experts=0"},
       "model.num_experts_per_tok: 2 of no experts: n_routed_experts is 0",
       "x.yaml:14"},
      {{"model.num_experts_per_tok=0", "model.n_routed_experts=0", "model.n_shared_experts=1"},
       "model.n_shared_experts: 1 beside no routed experts: n_routed_experts is 0"},
      {{"model.num_experts_per_tok=9"},
       "model.num_experts_per_tok: 9 is more than the 8 experts a token can reach (topk_group = 1 "
       "groups "
       "of 8)"},
      {{"model.n_group=4", "model.num_experts_per_tok=3"},
       "model.num_experts_per_tok: 3 is more than the 2 experts a token can reach (topk_group = 1 "
       "groups "
       "of 2)"},
      {{"model.n_group=3"},
       "model.n_routed_experts: 8 experts do not split into n_group = 3 groups",
       "x.yaml:13"},
      {{"model.n_group=2", "model.topk_group=3"}, "model.topk_group: 3 is more than n_group = 2"},
      {{"model.topk_group=2", "model.n_group=8"},
       "model.n_group: noaux_tc ranks a group by its two best experts, but 8 groups of 8 have 1 "
       "each"},
      {{"model.topk_method=greedy", "balance.bias_update_speed=0", "model.n_group=2"},
       "model.n_group: topk_method greedy knows no groups: n_group must be 1, got 2"},
      {{"train.precision=fp8"},
       "train.precision: fp8: model.layers.0.self_attn.q_proj is 24 x 32; both must be multiples "
       "of "
       "16 (bf16 has no such rule, section formats sets single roles)"},
      {{"train.precision=fp8", "formats.attention=bf16", "model.moe_intermediate_size=24"},
       "train.precision: fp8: model.layers.1.mlp.experts.down is 32 x 24; both must be multiples "
       "of "
       "16 (bf16 has no such rule, section formats sets single roles)",
       "--set train.precision=fp8"},
      {{"formats.experts=fp8", "model.moe_intermediate_size=24"},
       "formats.experts: fp8: model.layers.1.mlp.experts.down is 32 x 24; both must be multiples "
       "of "
       "16 (bf16 has no such rule, section formats sets single roles)",
       "--set formats.experts=fp8"},
      {{"formats.gradients=128x128"},
       "formats.gradients: 128x128 needs layers that multiply fp8",
       "--set formats.gradients=128x128"},
      {{"formats.experts=fp8", "train.precision=fp32"},
       "formats.experts: fp8 needs train.precision bf16 or fp8, it is fp32",
       "--set formats.experts=fp8"},
      {{"model.topk_method=group_limited_greedy", "balance.bias_update_speed=0.1"},
       "balance.bias_update_speed: 0.1 must be 0: only topk_method noaux_tc has a selection bias, "
       "the "
       "model's is group_limited_greedy"},
      {{"parallel.expert=3"},
       "parallel.expert: 3 must be a power of two that divides n_routed_experts = 8; these do: 1, "
       "2, 4, 8"},
      {{"parallel.expert=16"},
       "parallel.expert: 16 must be a power of two that divides n_routed_experts = 8; these do: 1, "
       "2, 4, 8"},
      {{"schedule.warmup_steps=101"}, "schedule.warmup_steps: 101 is more than train.steps = 100"},
      {{"schedule.min_lr=0.01"}, "schedule.min_lr: 0.01 is more than peak_lr = 0.001"},
      {{"schedule.kind=constant", "schedule.min_lr=1e-4"},
       "schedule.min_lr: kind constant does not use it; only cosine does"},
      {{"schedule.kind=constant", "schedule.decay_start_step=5"},
       "schedule.decay_start_step: kind constant does not use it; only cosine does"},
      {{"schedule.stages=[{until_step: 5}]"},
       "schedule.stages: kind cosine does not use them; only multi_stage does"},
      {{"schedule.kind=multi_stage"},
       "schedule.stages: kind multi_stage needs at least one stage",
       "x.yaml:15"},
      {{"schedule.warmup_steps=10", "schedule.decay_start_step=5"},
       "schedule.decay_start_step: 5 is before the end of the warm-up, 10"},
      {{"schedule.decay_start_step=100"},
       "schedule.decay_start_step: 100 must be below train.steps = 100"},
      {{"schedule.kind=multi_stage", "schedule.stages=[{until_step: 5, until_fraction: 0.5}]"},
       "schedule.stages[0]: needs one of until_step and until_fraction, has both"},
      {{"schedule.kind=multi_stage", "schedule.stages=[{lr_multiplier: 0.5}]"},
       "schedule.stages[0]: needs one of until_step and until_fraction, has neither"},
      {{"schedule.kind=multi_stage", "schedule.warmup_steps=5",
        "schedule.stages=[{until_step: 5}]"},
       "schedule.stages[0]: ends with step 5, which must be after step 5 (the end of the warm-up)"},
      {{"schedule.kind=multi_stage", "schedule.stages=[{until_step: 50}, {until_fraction: 0.4}]"},
       "schedule.stages[1]: ends with step 40, which must be after step 50 (the end of the stage "
       "before)"},
      {{"schedule.kind=multi_stage", "schedule.stages=[{until_step: 101}]"},
       "schedule.stages[0]: ends with step 101, after the run's last step 100"},
      {{"train.sequence_length=5000"},
       "train.sequence_length: 5000 is more than model.max_position_embeddings = 4096"},
      {{"train.micro_batch=3"}, "train.micro_batch: 3 sequences do not divide global_batch = 8"},
      {{"data.corpus=\"\""}, "data.corpus: must name a folder"},
      {{"run.dir=''"}, "run.dir: must name a folder"},
      {{"run.name=a/b"}, "run.name: 'a/b' cannot name a folder"},
      {{"run.name=.."}, "run.name: '..' cannot name a folder"},
  };
  for (const Case& bad : cases) {
    const std::string place = bad.place.empty() ? "--set " + bad.overrides.back() : bad.place;
    EXPECT_EQ(problems_of(kWholeRecipe, bad.overrides), place + ": " + bad.problem);
  }
}

TEST(Check, WhatKeepsTheRulesLoads) {
  const std::vector<std::vector<std::string>> cases = {
      {"model.n_routed_experts=0", "model.num_experts_per_tok=0"},
      {"model.first_k_dense_replace=0", "model.intermediate_size=0"},
      {"model.first_k_dense_replace=3"},
      {"model.n_group=4", "model.topk_group=2", "model.num_experts_per_tok=4"},
      {"model.topk_method=greedy", "balance.bias_update_speed=0", "model.scoring_func=softmax"},
      {"parallel.expert=8"},
      {"schedule.warmup_steps=100"},
      {"schedule.kind=multi_stage", "schedule.stages=[{until_fraction: 0.5}, {until_step: 100}]"},
      {"schedule.decay_start_step=99", "schedule.min_lr=1e-3"},
      {"train.micro_batch=8"},
  };
  for (const auto& overrides : cases)
    EXPECT_EQ(problems_of(kWholeRecipe, overrides), "loaded") << overrides.front();
}

TEST(Check, AllBrokenRulesAtOnce) {
  EXPECT_EQ(
      problems_of(kWholeRecipe, {"train.micro_batch=3", "model.qk_rope_head_dim=5"}),
      "--set model.qk_rope_head_dim=5: model.qk_rope_head_dim: 5 is odd, but RoPE turns channels "
      "in pairs\n"
      "--set train.micro_batch=3: train.micro_batch: 3 sequences do not divide global_batch = 8");
}

std::string layout_problem(const std::vector<std::string>& overrides, int64_t world_size) {
  try {
    check_layout(read_recipe(kWholeRecipe, "x.yaml", overrides), world_size);
  } catch (const RecipeError& error) {
    return error.what();
  }
  return "fits";
}

TEST(CheckLayout, WorldSizesThatFit) {
  for (const int64_t world_size : {1, 2, 4, 8}) EXPECT_EQ(layout_problem({}, world_size), "fits");
  for (const int64_t world_size : {4, 8})
    EXPECT_EQ(layout_problem({"parallel.expert=4"}, world_size), "fits");
  EXPECT_EQ(
      layout_problem({"parallel.expert=2", "train.global_batch=12", "train.micro_batch=2"}, 6),
      "fits");
}

TEST(CheckLayout, NamesTheNearestNumbersThatWork) {
  EXPECT_EQ(
      layout_problem({"parallel.expert=4"}, 6),
      "--set parallel.expert=4: parallel.expert: 6 ranks do not split into pipeline (1) x expert "
      "(4) = 4; the nearest numbers of ranks that do: 4 or 8");
  EXPECT_EQ(
      layout_problem({"parallel.expert=4"}, 3),
      "--set parallel.expert=4: parallel.expert: 3 ranks do not split into pipeline (1) x expert "
      "(4) = 4; the nearest numbers of ranks that do: 4");
  EXPECT_EQ(
      layout_problem({}, 3),
      "x.yaml:19: train.global_batch: 8 sequences do not split over 3 ranks with micro_batch = 1; "
      "the nearest that do: 6 or 9");
  EXPECT_EQ(
      layout_problem({"train.global_batch=40000"}, 2),
      "--set train.global_batch=40000: train.global_batch: 40000 sequences are 20000 micro-batches "
      "a step and rank, at most 16384 are planned for; use 32768 sequences or fewer, or a larger "
      "micro_batch");
  EXPECT_EQ(layout_problem({"train.global_batch=32768"}, 2), "fits");
  EXPECT_EQ(
      layout_problem({"train.micro_batch=2"}, 8),
      "x.yaml:19: train.global_batch: 8 sequences do not split over 8 ranks with micro_batch = 2; "
      "the nearest that do: 16");
}

std::string plan_problem(const std::vector<std::string>& overrides, int64_t world_size) {
  try {
    check_plan_layout(read_recipe(kWholeRecipe, "x.yaml", overrides), world_size);
  } catch (const RecipeError& error) {
    return error.what();
  }
  return "fits";
}

TEST(CheckPlanLayout, ScheduleStagesAndBatchFit) {
  EXPECT_EQ(plan_problem({"parallel.pipeline=2", "parallel.schedule=dualpipe"}, 4), "fits");
  EXPECT_EQ(plan_problem({"parallel.pipeline=3", "train.global_batch=9"}, 3), "fits");
  EXPECT_EQ(plan_problem({"parallel.waves=8"}, 1), "fits");
  EXPECT_EQ(plan_problem({"parallel.pipeline=2", "parallel.expert=4"}, 4),
            "--set parallel.expert=4: parallel.expert: 4 ranks do not split into pipeline (2) x "
            "expert (4) = 8; the nearest numbers of ranks that do: 8");
  // 3 layers in 4 stages; an odd number of positions; 4 micro-batches where 4 R are needed.
  EXPECT_EQ(plan_problem({"parallel.pipeline=4"}, 4),
            "--set parallel.pipeline=4: parallel.pipeline: 4 positions of 1f1b have 4 stages, more "
            "than num_hidden_layers = 3; at most 3");
  EXPECT_EQ(plan_problem({"parallel.pipeline=2", "parallel.schedule=interleaved"}, 2),
            "--set parallel.pipeline=2: parallel.pipeline: 2 positions of interleaved have 4 "
            "stages, more than num_hidden_layers = 3; at most 1");
  const std::string odd = plan_problem(
      {"parallel.pipeline=3", "parallel.schedule=dualpipe", "train.global_batch=9"}, 3);
  EXPECT_EQ(odd.rfind("--set parallel.pipeline=3: parallel.pipeline = 3: dualpipe ", 0), 0u) << odd;
  const std::string few = plan_problem(
      {"parallel.pipeline=2", "parallel.schedule=dualpipe", "train.global_batch=2"}, 2);
  EXPECT_EQ(few.rfind("--set train.global_batch=2: train.global_batch / (data ranks x "
                      "train.micro_batch) = 2: dualpipe ",
                      0),
            0u)
      << few;
}

TEST(CheckPlanLayout, ScheduleChoicesAreTheSchedulesThereAre) {
  for (const Field& field : table_of(static_cast<const ParallelSettings*>(nullptr)))
    if (std::string(field.name) == "schedule") {
      std::vector<std::string> choices = schedule_names();
      choices.insert(choices.end(), {"file:PATH", kAutoSchedule});
      EXPECT_EQ(field.choices, choices);
    }
}

// A ramp whose batches grow by `increment` from `from` sequences.
std::string ramp(int from, int increment) {
  return fmt::format("train.batch_ramp={{from: {}, increment: {}, tokens: 1000}}", from, increment);
}

TEST(Check, BatchRampLeadsToTheBatch) {
  const auto problem = [](const std::string& text) {
    const std::string place = "--set " + text + ": train.batch_ramp.",
                      found = problems_of(kWholeRecipe, {text});
    return found.starts_with(place) ? found.substr(place.size()) : found;
  };
  EXPECT_EQ(problem(ramp(2, 3)), "loaded");
  EXPECT_EQ(problem(ramp(2, 4)),
            "increment: 4 sequences at a time do not lead from 2 to "
            "global_batch = 8; the nearest that do: 3 or 6");
  EXPECT_EQ(problem(ramp(2, 7)),
            "increment: 7 sequences at a time do not lead from 2 to "
            "global_batch = 8; the nearest that do: 6");
  EXPECT_EQ(problem(ramp(8, 1)), "from: 8 sequences are not fewer than global_batch = 8");
  EXPECT_EQ(problem(ramp(2, 0)), "increment: a ramp needs it, 1 at least");
  EXPECT_EQ(problem(ramp(0, 1)), "increment: there is no ramp without train.batch_ramp.from");
  EXPECT_EQ(problem("train.batch_ramp={from: 2, increment: 2}"),
            "tokens: a ramp needs it, 1 at least");
}

TEST(CheckPlanLayout, EveryBatchOfARampFits) {
  const auto problem = [](std::vector<std::string> overrides, const std::string& text, int ranks) {
    overrides.push_back(text);
    const std::string place = "--set " + text + ": train.batch_ramp.from: ";
    const std::string found = plan_problem(overrides, ranks);
    return found.starts_with(place) ? found.substr(place.size()) : found;
  };
  const std::vector<std::string> dualpipe = {"parallel.pipeline=2", "parallel.schedule=dualpipe",
                                             "train.global_batch=16"};
  EXPECT_EQ(problem({}, ramp(4, 2), 2), "fits");
  EXPECT_EQ(problem(dualpipe, ramp(4, 2), 2), "fits");
  EXPECT_EQ(problem({}, ramp(2, 2), 4),
            "2 sequences grow by 2 to 8, and a step of 2 cannot be: 2 sequences do not split over "
            "4 ranks with micro_batch = 1; the nearest `from` that works: 4 with increment = 4");
  EXPECT_EQ(problem(dualpipe, ramp(2, 2), 2),
            "2 sequences grow by 2 to 16, and a step of 2 cannot be: their micro-batches a rank = "
            "2: dualpipe needs at least two for each of its 2 positions; the nearest that works: "
            "4; the nearest `from` that works: 4");
  // 4 fits, 7 does not.
  EXPECT_EQ(problem(dualpipe, ramp(4, 3), 2),
            "4 sequences grow by 3 to 16, and a step of 7 cannot be: their micro-batches a rank = "
            "7: dualpipe needs an even number, half of them for each direction; the nearest that "
            "works: 6 or 8; the nearest `from` that works: 14 with increment = 2");
  EXPECT_EQ(problem({"parallel.pipeline=2", "parallel.schedule=dualpipe", "train.global_batch=4"},
                    ramp(2, 2), 2),
            "2 sequences grow by 2 to 4, and a step of 2 cannot be: their micro-batches a rank = "
            "2: dualpipe needs at least two for each of its 2 positions; the nearest that works: "
            "4; the nearest `from` that works: none, leave batch_ramp out");
}

// Relative to the file that says it, which an extended one may be; on the command line to where we
// are.
TEST(CheckPlanLayout, AScheduleInAFile) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(testing::TempDir()) / "check_test_schedules";
  fs::create_directories(folder / "base");
  const Schedule schedule = make_schedule("dualpipe", {.positions = 2, .microbatches = 8});
  std::ofstream(folder / "base" / "mine.txt") << schedule_text(schedule);
  std::ofstream(folder / "base" / "base.yaml")
      << kWholeRecipe << "parallel: {pipeline: 2, schedule: \"file:mine.txt\"}\n";
  std::ofstream(folder / "x.yaml") << "extends: base/base.yaml\n";
  const auto plan = [&](const std::vector<std::string>& overrides) -> std::string {
    try {
      check_plan_layout(load_recipe((folder / "x.yaml").string(), overrides), 2);
    } catch (const RecipeError& error) {
      return error.what();
    }
    return "fits";
  };
  const std::string path = (folder / "base" / "mine.txt").string();
  EXPECT_EQ(load_recipe((folder / "x.yaml").string()).parallel.schedule, "file:" + path);
  EXPECT_EQ(plan({}), "fits");
  EXPECT_EQ(plan({"parallel.schedule=file:" + path}), "fits");
  EXPECT_EQ(plan({"parallel.schedule=file:mine.txt"}),
            "--set parallel.schedule=file:mine.txt: mine.txt: this schedule cannot be read: No "
            "such file or directory");
  EXPECT_EQ(plan({"train.global_batch=16"}),
            "--set train.global_batch=16: train.global_batch / (data ranks x train.micro_batch) = "
            "16: the schedule in " +
                path + " is for 8 micro-batches; the nearest that works: 8");
  EXPECT_EQ(plan({"parallel.schedule=file:"}).substr(0, 70),
            "--set parallel.schedule=file:: parallel.schedule: expected one of 1f1b");
  fs::remove_all(folder);
}

TEST(Check, WavesSplitARanksExperts) {
  EXPECT_EQ(problems_of(kWholeRecipe, {"parallel.waves=3"}),
            "--set parallel.waves=3: parallel.waves: 3 parts do not split the 8 experts of a rank; "
            "these do: 1, 2, 4, 8");
  EXPECT_EQ(problems_of(kWholeRecipe, {"parallel.expert=4", "parallel.waves=4"}),
            "--set parallel.waves=4: parallel.waves: 4 parts do not split the 2 experts of a rank; "
            "these do: 1, 2");
}

TEST(Check, AnAutomaticScheduleNeedsAClusterAndChoosesAllOfIt) {
  EXPECT_EQ(
      problems_of(kWholeRecipe, {"parallel.schedule=auto"}),
      "--set parallel.schedule=auto: parallel.cluster: schedule auto is chosen for a cluster; "
      "name one of these, or a file: " +
          fmt::format("{}", fmt::join(cluster_names(), ", ")));
  const std::vector<std::string> automatic = {"parallel.schedule=auto", "parallel.cluster=netlab"};
  const auto problem = [&](const std::string& more) {
    return problems_of(kWholeRecipe, {automatic[0], automatic[1], more});
  };
  EXPECT_EQ(problems_of(kWholeRecipe, automatic), "loaded");
  for (const char* key : {"chunks=2", "pairs=true", "waves=2"}) {
    const std::string text = std::string("parallel.") + key;
    EXPECT_EQ(problem(text), "--set " + text + ": " + text.substr(0, text.find('=')) +
                                 ": is chosen with schedule auto; leave it out");
  }
}

TEST(CheckLayout, AnAutomaticScheduleNeedsLayersForItsPositions) {
  const std::vector<std::string> automatic = {"parallel.schedule=auto", "parallel.cluster=netlab"};
  EXPECT_EQ(layout_problem(automatic, 4), "fits");
  EXPECT_EQ(layout_problem({automatic[0], automatic[1], "parallel.pipeline=2"}, 4), "fits");
  EXPECT_NE(layout_problem({automatic[0], automatic[1], "parallel.pipeline=4"}, 4)
                .find("more than num_hidden_layers = 3"),
            std::string::npos);
}

}  // namespace
}  // namespace strait
