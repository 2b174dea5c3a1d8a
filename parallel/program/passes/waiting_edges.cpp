// parallel/program/passes/waiting_edges.cpp: the fewest edges that make every task wait for what it
// reads.
//
// A task follows the one before it on its lane, and through that whatever that one waited for. An
// edge that follows from these and from the task's other edges is left out.
#include <algorithm>
#include <array>

#include "core/errors.h"
#include "parallel/program/dataflow.h"
#include "parallel/program/passes/passes.h"

namespace strait {
namespace {

// Per lane the last task known to have finished.
using Finished = std::array<int, kNumLanes>;

void merge(Finished& finished, const Finished& more) {
  for (size_t lane = 0; lane < finished.size(); ++lane)
    finished[lane] = std::max(finished[lane], more[lane]);
}

}  // namespace

Program add_waiting_edges(const StepShape& shape, Program program) {
  const Dataflow dataflow(shape, program);
  std::vector<Finished> finished_with(
      program.tasks.size());  // when task i has finished, what else has
  Finished nothing;
  nothing.fill(-1);
  Finished last_on_lane = nothing;
  for (int index = 0; index < static_cast<int>(program.tasks.size()); ++index) {
    Task& task = program.tasks[static_cast<size_t>(index)];
    int& previous = last_on_lane[static_cast<size_t>(task.lane)];
    Finished finished = previous < 0 ? nothing : finished_with[static_cast<size_t>(previous)];
    std::vector<int> needs = dataflow.needs(index);
    // Later tasks first: only a later one can have waited for an earlier one.
    std::sort(needs.rbegin(), needs.rend());
    for (const int need : needs) {
      STRAIT_CHECK(need < index, to_string(task) + " is listed before " +
                                     to_string(program.tasks[static_cast<size_t>(need)]) +
                                     ", which it reads");
      if (finished[static_cast<size_t>(program.tasks[static_cast<size_t>(need)].lane)] >= need)
        continue;
      task.after.push_back(need);
      merge(finished, finished_with[static_cast<size_t>(need)]);
    }
    std::reverse(task.after.begin(), task.after.end());
    finished[static_cast<size_t>(task.lane)] = index;
    finished_with[static_cast<size_t>(index)] = finished;
    previous = index;
  }
  return program;
}

}  // namespace strait
