// The published machine from its own phase times: DeepSeek's trace of a pair of four MoE layers,
// 129.0 ms. Only the time of each phase goes in; order, waiting and overlap are the simulator's.
// Nothing is fitted.
#include <gtest/gtest.h>

#include "parallel/sim/simulate.h"
#include "parallel/sim/task_table.h"
#include "tests/bench/layer_pair.h"

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
