// parallel/pipeline/schedule_times.h: a schedule's slots on a clock: makespan, bubbles, pairs, live
// micro-batches.
//
// A position runs its slots in order, each as soon as its inputs are there (run_slots.h); messages
// take no time. What links, layers and latency add is the simulator's: parallel/sim/simulate.h.
#pragma once

#include <vector>

#include "parallel/pipeline/run_slots.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/slot_costs.h"

namespace strait {

// What a position's slots are, whatever they take.
struct SlotCounts {
  int pairs = 0;
  int lone_forwards = 0, lone_backwards = 0, lone_input_gradients = 0;
  int weight_gradients = 0;
  // Most chunks' activations held at once: from the start of a forward to the end of the backward
  // or input gradient, or to the end of the backward or weight gradient. During a pair both its
  // micro-batches are held.
  int peak_live_until_backward = 0, peak_live_until_weight = 0;

  // Of the forwards, backwards and input gradients, how many are in pairs: 0 to 1.
  double paired_share() const;
};
SlotCounts count_slots(const Schedule& schedule, int position);
SlotCounts count_slots(const Schedule& schedule);  // sums of all positions, and the largest peaks

struct ScheduleTimes {
  std::vector<std::vector<SlotTime>>
      slots;                 // [position][slot]; both slots of a pair have the pair's
  std::vector<double> busy;  // [position] sum of its slots' durations
  double makespan = 0;       // from 0 to the end of the last slot anywhere

  double bubble(int position) const { return makespan - busy[position]; }
};

// REQUIRES: check_schedule has passed. Errors: those of require_slot_costs.
ScheduleTimes schedule_times(const Schedule& schedule, const SlotCosts& costs);

}  // namespace strait
