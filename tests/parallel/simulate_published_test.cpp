// The published machine from its own phase times: DeepSeek's trace of a pair of four MoE layers,
// 129.0 ms. Only the time of each phase goes in; order, waiting and overlap are the simulator's.
// Nothing is fitted.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "parallel/sim/simulate.h"
#include "parallel/sim/task_table.h"
#include "tests/bench/layer_pair.h"
#include "tests/bench/published_step.h"

namespace strait {
namespace {

constexpr double kMeasuredSpan = 129.012e-3;  // recipes/clusters/h800-trace.csv

TEST(PublishedMachine, APairOfFourLayersTakesItsMeasuredTime) {
  const TaskTable table = read_task_table(STRAIT_RECIPES "/clusters/h800-trace.csv");
  const std::vector<Program> programs = {published_pair(4)};
  for (const bool by_layer : {false, true})
    for (const bool with_gaps : {false, true}) {
      const auto costs = costs_from(table, {.by_layer = by_layer, .with_gaps = with_gaps}, programs,
                                    [](const Task& task) {
                                      ADD_FAILURE() << "no time for " << to_string(task);
                                      return TaskCost{};
                                    });
      const Simulation simulation = simulate(programs, costs);
      EXPECT_NEAR(simulation.makespan, kMeasuredSpan, 0.03 * kMeasuredSpan);
      const LaneAccount result = account(programs[0], simulation.times[0], simulation.makespan);
      // Compute is what bounds the pair: the transfers alone fill 89% of it, and nearly all of them
      // is hidden.
      EXPECT_GT(result.compute_seconds, 0.97 * simulation.makespan);
      EXPECT_GT(result.hidden_seconds, 0.98 * result.transfer_seconds);
    }
}

// The first pair of a position of the whole step, cut out; its layers counted from 0 in either
// chunk.
Program first_pair(const Program& program) {
  Program pair{.tasks = {}, .num_microbatches = 2, .position = 0};
  std::map<int, int> place;  // of a task of the program in the pair
  int first_F = 1 << 30, first_B = 1 << 30;
  for (size_t i = 0; i < program.tasks.size(); ++i) {
    const Task& task = program.tasks[i];
    if (task.pair != 0 || task.lane == Lane::pipe) continue;
    place[static_cast<int>(i)] = static_cast<int>(pair.tasks.size());
    int& first = task.pass == Pass::forward ? first_F : first_B;
    first = std::min(first, task.layer);
    pair.tasks.push_back(task);
  }
  for (Task& task : pair.tasks) {
    task.layer -= task.pass == Pass::forward ? first_F : first_B;
    std::vector<int> inside;
    for (const int earlier : task.after)
      if (place.count(earlier)) inside.push_back(place[earlier]);
    task.after = inside;
  }
  return pair;
}

// What lower_step makes of a pair is the order of the published trace, built by hand.
TEST(PublishedMachine, LoweringGivesThePublishedOrder) {
  const Program expected = published_pair(4),
                lowered = first_pair(published_step(4, false).programs[7]);
  const auto order = [](const Program& program, Lane lane) {
    std::string text;
    for (const Task& task : program.tasks)
      if (task.lane == lane && task.kind != Kind::shared)
        text += std::string(name_of(task.kind)) + "FBW"[static_cast<int>(task.pass)] +
                std::to_string(task.layer) + ' ';
    return text;
  };
  EXPECT_EQ(order(lowered, Lane::compute), order(expected, Lane::compute));
  EXPECT_EQ(order(lowered, Lane::far), order(expected, Lane::far));
  const TaskTable table = read_task_table(STRAIT_RECIPES "/clusters/h800-trace.csv");
  const auto time = [&](const Program& program) {
    const std::vector<Program> programs = {program};
    const auto costs =
        costs_from(table, {.by_layer = true, .with_gaps = true}, programs, [](const Task& task) {
          ADD_FAILURE() << "no time for " << to_string(task);
          return TaskCost{};
        });
    return simulate(programs, costs).makespan;
  };
  EXPECT_NEAR(time(lowered), time(expected), 1e-9);
}

// Without interleaving the same phases take their sum: the program's order is what the time comes
// from.
TEST(PublishedMachine, OneLaneTakesTheSum) {
  const TaskTable table = read_task_table(STRAIT_RECIPES "/clusters/h800-trace.csv");
  std::vector<Program> programs = {published_pair(4)};
  for (Task& task : programs[0].tasks) task.lane = Lane::compute;
  const auto costs = costs_from(table, {}, programs, [](const Task&) { return TaskCost{}; });
  EXPECT_NEAR(simulate(programs, costs).makespan, 238.8e-3,
              1e-4);  // 124.29 + 114.52 ms, and 1.85 times the pair
}

}  // namespace
}  // namespace strait
