// launch/view/slots_trace.h: a schedule's slots on a clock as a Trace, for the picture of a
// pipeline before there are layers or links in it.
#pragma once

#include <string>
#include <vector>

#include "parallel/pipeline/run_slots.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/sim/trace.h"

namespace strait {

// A predicted, relative trace: one span per slot on the compute lane, named as to_string(slot), of
// kind "forward", "backward", "input_gradient" or "weight_gradient" (a whole backward has the pass
// of its input gradient). Both slots of a pair have its number and its time. `times`
// [position][slot] as schedule_times gives them.
Trace trace_of_slots(std::string title, const Schedule& schedule,
                     const std::vector<std::vector<SlotTime>>& times);

}  // namespace strait
