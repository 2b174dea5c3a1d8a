// parallel/program/slot_times.h: when a schedule's slots would run if a layer took one unit in each
// of forward, input gradient and weight gradient, the head one in forward and in backward, and
// messages none.
//
// Only for putting what several positions share in one order on all of them: a slot's end here is
// later than that of all it depends on, wherever those ran.
#pragma once

#include <map>
#include <tuple>
#include <vector>

#include "parallel/pipeline/run_slots.h"
#include "parallel/program/lower.h"

namespace strait {

class SlotTimes {
 public:
  // REQUIRES: a schedule that can run to its end.
  SlotTimes(const StepShape& shape, const Schedule& schedule);
  // Of the slot that does this; both slots of a pair have the time of the pair. Null: no slot does.
  const SlotTime* find(int position, Pass pass, int microbatch, int chunk) const;
  // REQUIRES: the task comes from a slot.
  const SlotTime& of(int position, const Task& task) const;

 private:
  // [position]: pass, micro-batch, chunk
  std::vector<std::map<std::tuple<Pass, int, int>, SlotTime>> times_;
};

}  // namespace strait
