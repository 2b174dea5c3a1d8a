// parallel.schedule: auto: what the planner chooses, that all ranks get it, and that a run keeps
// it.
#include "launch/trainer/agree_schedule.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/errors.h"
#include "launch/plan/choose_schedule.h"
#include "launch/trainer/run_folder.h"
#include "parallel/comm/local.h"
#include "recipes/cluster.h"
#include "tests/launch/tiny_verify.h"

namespace strait {
namespace {

Recipe lite_recipe(const std::vector<std::string>& overrides) {
  std::vector<std::string> all = {"train.global_batch=64", "parallel.schedule=auto",
                                  "parallel.cluster=h800-2048", "parallel.pipeline=2"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  return load_recipe(STRAIT_SOURCE_DIR "/recipes/deepseek-v2-lite.yaml", all);
}

TEST(ChooseSchedule, IsTheFastestOfThoseAtTheRecipesSizes) {
  const Recipe recipe = lite_recipe({"parallel.expert=4"});
  const ChosenSchedule chosen = choose_schedule(recipe, 16);
  EXPECT_EQ(chosen.layout.pipeline, 2);
  EXPECT_EQ(chosen.layout.expert, 4);
  EXPECT_EQ(chosen.layout.micro_batch, recipe.train.micro_batch);
  Planner planner(recipe, load_cluster("h800-2048"), {.ranks = 16});
  EXPECT_EQ(own_layout(planner), chosen.layout);
  EXPECT_NEAR(planner.plan(chosen.layout).figures.seconds, chosen.seconds, 1e-12);
  int slower = 0;
  for (const char* schedule : {"1f1b", "interleaved", "zb1p", "zbv", "dualpipe", "dualpipev"})
    for (const bool pairs : {false, true})
      for (const int64_t waves : {1, 2}) {
        if (pairs && std::string(schedule).starts_with("dual")) continue;
        PlanLayout layout = chosen.layout;
        layout.schedule = schedule;
        layout.chunks = layout.schedule == "interleaved" ? 2 : 0;
        layout.pairs = pairs;
        layout.waves = waves;
        const StepFigures figures = planner.plan(layout).figures;
        if (layout == chosen.layout || figures.memory.total() > planner.usable_memory()) continue;
        EXPECT_GE(figures.seconds, chosen.seconds) << to_string(layout);
        ++slower;
      }
  EXPECT_GT(slower, 10);
}

TEST(ChooseSchedule, SaysWhatCannotBe) {
  const auto problem = [](const Recipe& recipe, int64_t ranks) -> std::string {
    try {
      choose_schedule(recipe, ranks);
    } catch (const RecipeError& error) {
      return error.what();
    }
    return "chosen";
  };
  EXPECT_NE(problem(lite_recipe({"parallel.cluster=h80"}), 16)
                .find("parallel.cluster=h80: "
                      "parallel.cluster: no cluster "
                      "'h80'"),
            std::string::npos);
  EXPECT_NE(problem(lite_recipe({"parallel.cluster=rtx4090-ethernet"}), 16)
                .find("parallel.schedule: no schedule fits the 22.6 GB that a rank of "
                      "rtx4090-ethernet can use; the smallest needs "),
            std::string::npos);
  EXPECT_NE(problem(lite_recipe({}), 15).find("15 ranks do not split"), std::string::npos);
}

class AgreeSchedule : public testing::Test {
 protected:
  AgreeSchedule() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~AgreeSchedule() override { std::filesystem::remove_all(folder_); }

  static Recipe tiny(int pipeline) {
    Recipe recipe = test::tiny_recipe(2, "fp32");
    recipe.model.num_hidden_layers = 9;
    recipe.train.global_batch = 16;
    recipe.data.corpus = "corpus";
    recipe.parallel.pipeline = pipeline;
    recipe.parallel.schedule = kAutoSchedule;
    recipe.parallel.cluster = "netlab";
    return recipe;
  }
  // On four ranks; what rank 0 says is added to said_.
  Recipe agreed(const Recipe& recipe) {
    std::vector<Recipe> all(4);
    run_ranks(4, [&](Rank rank, Comm& comm) {
      all[static_cast<size_t>(rank.value)] =
          agree_schedule(recipe, comm, comm.size(), folder_, [&](const std::string& line) {
            EXPECT_EQ(rank.value, 0);
            said_.push_back(line);
          });
    });
    for (const Recipe& other : all) EXPECT_EQ(other, all.front());
    return all.front();
  }
  void start(const Recipe& recipe) const {
    std::ofstream(RunFolder::recipe(folder_)) << to_yaml(recipe);
  }

  const std::string folder_ = testing::TempDir() + "strait_agree_schedule";
  std::vector<std::string> said_;
};

TEST_F(AgreeSchedule, AllRanksGetTheSame) {
  const Recipe recipe = agreed(tiny(2));
  EXPECT_EQ(layout_of(recipe), choose_schedule(tiny(2), 4).layout);
  ASSERT_EQ(said_.size(), 1u);
  EXPECT_TRUE(
      said_[0].starts_with("schedule auto: pipeline 2, expert 2, " + recipe.parallel.schedule))
      << said_[0];
  EXPECT_NE(said_[0].find("; predicted step on netlab: "), std::string::npos) << said_[0];
  Recipe named = tiny(2);
  named.parallel.schedule = "zbv";
  EXPECT_EQ(agreed(named), named);
  EXPECT_EQ(said_.size(), 1u);
}

TEST_F(AgreeSchedule, ARunKeepsWhatItWasStartedWith) {
  Recipe started = agreed(tiny(2));
  // Another one than would be chosen now, as of an older planner.
  started.parallel.schedule = started.parallel.schedule == "zb1p" ? "1f1b" : "zb1p";
  started.parallel.chunks = 0;
  started.parallel.pairs = false;
  started.parallel.waves = 2;
  start(started);
  Recipe other_lr = tiny(2);
  other_lr.schedule.peak_lr = 2e-3;
  EXPECT_EQ(layout_of(agreed(other_lr)), layout_of(started));
  EXPECT_TRUE(said_.back().ends_with(", as this run was started")) << said_.back();
  // Of other sizes it is chosen anew.
  EXPECT_EQ(layout_of(agreed(tiny(1))), choose_schedule(tiny(1), 4).layout);
  EXPECT_NE(said_.back().find("predicted step"), std::string::npos);
}

TEST_F(AgreeSchedule, IsChosenAnewWhereWhatWasKeptCannotRun) {
  Recipe started = tiny(2);
  started.parallel.schedule = "dualpipe";
  start(started);
  Recipe few = tiny(2);  // micro-batches for two copies
  few.train.global_batch = 2;
  EXPECT_EQ(layout_of(agreed(few)), choose_schedule(few, 4).layout);
}

TEST_F(AgreeSchedule, Trains) {
  const Recipe recipe = agreed(tiny(2));
  EXPECT_TRUE(test::verify_on(4, recipe, {.steps = 1, .free_steps = 0}).passed());
}

}  // namespace
}  // namespace strait
