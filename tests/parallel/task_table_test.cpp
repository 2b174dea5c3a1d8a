// Task costs from measured times: what a table says, and what is wrong with a bad one.
#include "parallel/sim/task_table.h"

#include <gtest/gtest.h>

#include "core/errors.h"
#include "parallel/sim/imbalance.h"

namespace strait {
namespace {

const std::string kHeader = "kind,pass,layer,start_us,end_us,busy_us,cores\n";

double cores(const TaskCost& cost) { return cost.share[static_cast<size_t>(Link::cores)]; }

TEST(TaskTable, GivesTheMeanOfAKindAndPassOrOfALayer) {
  const TaskTable table = parse_task_table("# measured\n" + kHeader +
                                               "attention,F,0,100,400,200,0  # the first\n\n"
                                               "attention,F,1,500,900,400,0\r\n"
                                               "attention,B,1,0,50,50,0\n"
                                               "dispatch,F,0,0,300,300,0.1\n"
                                               "dispatch, F, 1, 0, 300, 300, 0.3",
                                           "t.csv");
  ASSERT_EQ(table.rows.size(), 5u);
  const Task attention{.kind = Kind::attention, .layer = 1};
  EXPECT_DOUBLE_EQ(cost_of(table, attention, {})->seconds, 300e-6);
  EXPECT_DOUBLE_EQ(cost_of(table, attention, {.by_layer = true})->seconds, 400e-6);
  EXPECT_DOUBLE_EQ(cost_of(table, attention, {.with_gaps = true})->seconds, 350e-6);
  EXPECT_DOUBLE_EQ(cores(*cost_of(table, attention, {})), 1);
  const Task dispatch{.kind = Kind::dispatch, .lane = Lane::far, .layer = 0, .num_parts = 2};
  EXPECT_DOUBLE_EQ(cores(*cost_of(table, dispatch, {})), 0.2);
  EXPECT_DOUBLE_EQ(cost_of(table, dispatch, {})->seconds, 150e-6);  // one of two waves
  EXPECT_FALSE(cost_of(table, {.kind = Kind::attention, .layer = 2}, {.by_layer = true}));
  EXPECT_FALSE(cost_of(table, {.kind = Kind::attention, .pass = Pass::weight_gradient}, {}));
}

TEST(TaskTable, CostsOfWhatItLacksAreAskedFor) {
  const TaskTable table = parse_task_table(kHeader + "attention,F,0,0,5,5,0\n", "t.csv");
  const std::vector<Program> programs = {
      {.tasks = {{.kind = Kind::attention, .layer = 0}, {.kind = Kind::head}}}};
  const auto costs = costs_from(table, {}, programs, [](const Task& task) {
    EXPECT_EQ(task.kind, Kind::head);
    return TaskCost{.seconds = 7};
  });
  EXPECT_DOUBLE_EQ(costs[0][0].seconds, 5e-6);
  EXPECT_DOUBLE_EQ(costs[0][1].seconds, 7);
}

TEST(TaskTable, SaysLineAndRuleOfABadOne) {
  const auto problem = [](const std::string& text) -> std::string {
    try {
      parse_task_table(text, "t.csv");
    } catch (const RecipeError& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_EQ(problem("kind,pass\n"),
            "t.csv:1: the first row of a task table is "
            "'kind,pass,layer,start_us,end_us,busy_us,cores', not 'kind,pass'");
  EXPECT_EQ(problem(kHeader), "t.csv: a task table without a task");
  EXPECT_EQ(problem(kHeader + "attention,F,0,0,5,5\n"),
            "t.csv:2: expected 7 cells (kind,pass,layer,start_us,end_us,busy_us,cores), got 6");
  EXPECT_NE(problem(kHeader + "attn,F,0,0,5,5,0\n")
                .find("t.csv:2: unknown kind 'attn'; kinds are gradient_norm, "),
            std::string::npos);
  EXPECT_EQ(problem(kHeader + "\nattention,I,0,0,5,5,0\n"),
            "t.csv:3: pass is F (forward), B (input gradient) or W (weight gradient), not 'I'");
  EXPECT_EQ(problem(kHeader + "attention,F,0.5,0,5,5,0\n"),
            "t.csv:2: layer is a number of at least 0, not '0.5'");
  EXPECT_EQ(problem(kHeader + "attention,F,0,0,-5,5,0\n"),
            "t.csv:2: end_us is a number of at least 0, not '-5'");
  EXPECT_EQ(problem(kHeader + "attention,F,0,0,nan,5,0\n"),
            "t.csv:2: end_us is a number of at least 0, not 'nan'");
  EXPECT_EQ(problem(kHeader + "attention,F,0,2,6,5,0\n"),
            "t.csv:2: busy_us 5 is more than end_us - start_us = 4");
  EXPECT_EQ(problem(kHeader + "attention,F,0,0,5,5,20\n"),
            "t.csv:2: cores is a share in [0, 1], not 20");
  EXPECT_THROW(read_task_table("/no/such/table.csv"), DataError);
}

TEST(Imbalance, SlowsExpertsAndTheirExchangesOnly) {
  const std::vector<Program> programs = {{.tasks = {{.kind = Kind::attention},
                                                    {.kind = Kind::dispatch, .lane = Lane::far},
                                                    {.kind = Kind::shared},
                                                    {.kind = Kind::experts},
                                                    {.kind = Kind::combine, .lane = Lane::far}}}};
  const std::vector<TaskCost> costs(5, {.latency_seconds = 1, .seconds = 2, .bytes_far = 3});
  const auto skewed = with_every_skew_waited_for(programs, {costs}, 1.25);
  const double expected[] = {2, 2.5, 2, 2.5, 2.5};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_DOUBLE_EQ(skewed[0][i].seconds, expected[i]);
    EXPECT_DOUBLE_EQ(skewed[0][i].latency_seconds, 1);
    EXPECT_DOUBLE_EQ(skewed[0][i].bytes_far, 3);
  }
  EXPECT_THROW(with_every_skew_waited_for(programs, {costs}, 0.9), InternalError);
}

}  // namespace
}  // namespace strait
