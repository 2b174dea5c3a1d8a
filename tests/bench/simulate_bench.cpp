// How long the simulator takes for a step of DeepSeek-V3's size on one core: 2,048 ranks are 16
// programs.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "parallel/sim/simulate.h"
#include "parallel/sim/task_table.h"
#include "tests/bench/published_step.h"

namespace strait {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Messages and collectives take links and latency, so that tasks of several positions share links
// too.
TaskCost unmeasured(const Task& task) {
  TaskCost cost{.latency_seconds = 10e-6, .seconds = 1.2e-3};
  if (is_transfer(task.lane))
    cost.share = {0.9, 0.9, 0.2, 0.05};
  else
    cost.share[static_cast<size_t>(Link::cores)] = 1;
  return cost;
}

void bench(int layers_per_stage) {
  constexpr int kRuns = 7;
  const TaskTable table = read_task_table(STRAIT_RECIPES "/clusters/h800-trace.csv");
  auto start = std::chrono::steady_clock::now();
  const std::vector<Program> programs = published_step(layers_per_stage, true).programs;
  const double lowering = seconds_since(start);
  auto costs = costs_from(table, {}, programs, unmeasured);
  size_t num_tasks = 0;
  for (size_t p = 0; p < programs.size(); ++p) {
    num_tasks += programs[p].tasks.size();
    // The trace's times have the cores of transfers in them; here they are apart, so that every
    // transfer changes a speed.
    for (size_t i = 0; i < programs[p].tasks.size(); ++i)
      if (programs[p].tasks[i].lane == Lane::far) costs[p][i].share = {0.8, 0.8, 0.6, 20.0 / 132};
  }
  std::vector<double> runs;
  double makespan = 0;
  for (int run = 0; run < kRuns; ++run) {
    start = std::chrono::steady_clock::now();
    makespan = simulate(programs, costs).makespan;
    runs.push_back(seconds_since(start));
  }
  std::sort(runs.begin(), runs.end());
  fmt::print("{:>16} {:>9} {:>12.3f} {:>12.3f} {:>12.3f} {:>12.2f}\n", layers_per_stage, num_tasks,
             lowering, runs[0], runs[kRuns / 2], makespan);
}

}  // namespace
}  // namespace strait

int main() {
  fmt::print("{:>16} {:>9} {:>12} {:>12} {:>12} {:>12}\n", "layers a stage", "tasks", "lowering s",
             "fastest s", "median s", "simulated s");
  for (const int layers_per_stage : {4, 8}) strait::bench(layers_per_stage);
}
