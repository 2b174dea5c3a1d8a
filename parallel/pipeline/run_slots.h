// parallel/pipeline/run_slots.h: runs a schedule's slots in order, each when its inputs are there.
//
// A forward waits for the stage before it, a backward or input gradient for its own forward and the
// stage after it, a weight gradient for its input gradient. A pair waits for the inputs of both
// slots and gives both results at its end.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"

namespace strait {

struct SlotTime {
  double start = 0, end = 0;
};

struct SlotRun {
  std::vector<std::vector<SlotTime>>
      times;  // [position][slot]; both slots of a pair have the pair's
  std::vector<int>
      next_slot;  // [position] the slot that never got its inputs; number of slots where all ran
  bool finished() const;  // everywhere
  // Of the positions' first slots that never ran, for each slot (of a pair: both) whether its own
  // inputs were there.
  std::vector<std::vector<bool>> next_ready;  // [position][0 or 1]
};

// `durations` as `times`; that of a pair is at its first slot.
// REQUIRES: every slot names a chunk, a micro-batch and stages that exist, and every stage's copies
// are somewhere.
SlotRun run_slots(const Schedule& schedule, const std::vector<std::vector<double>>& durations);
// All durations 1: what remains is whether the slots can run to their end.
SlotRun run_slots(const Schedule& schedule);
// The same of a schedule that changes: when all stand still, `at_stand` may change slots of one
// position that have not run, and returns which; or -1, which ends the run.
SlotRun run_slots(const Schedule& schedule, const std::function<int(const SlotRun&)>& at_stand);

}  // namespace strait
