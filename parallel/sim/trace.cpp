#include "parallel/sim/trace.h"

#include <cmath>
#include <utility>

namespace strait {

Trace trace_of(std::string title, std::span<const Program> programs,
               const std::vector<std::vector<TaskCost>>& costs, const Simulation& simulation) {
  Trace trace{.title = std::move(title), .predicted = true, .spans = {}};
  for (size_t p = 0; p < programs.size(); ++p) {
    for (size_t i = 0; i < programs[p].tasks.size(); ++i) {
      const Task& task = programs[p].tasks[i];
      const TaskTime& time = simulation.times[p][i];
      const TaskCost& cost = costs[p][i];
      trace.spans.push_back({.rank = programs[p].position,
                             .lane = task.lane,
                             .name = to_string(task),
                             .kind = name_of(task.kind),
                             .pass = task.pass,
                             .microbatch = task.microbatch,
                             .layer = task.layer,
                             .chunk = task.chunk,
                             .pair = task.pair,
                             .start_us = time.start * 1e6,
                             .end_us = time.end * 1e6,
                             .bytes = std::llround(cost.bytes_near + cost.bytes_far)});
    }
  }
  return trace;
}

}  // namespace strait
