// parallel/pipeline/pairing.h: makes pairs of a schedule's neighbours, so that one's transfers run
// under the other's compute. It works on any schedule, and on one position alone: F0, (F1&B0),
// (F2&B1), ..., B(M-1).
#pragma once

#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/slot_costs.h"

namespace strait {

// Every forward and backward (or input gradient) that are neighbours, of different micro-batches
// and not in a pair yet become one, from each position's first slot on; a pair is taken apart again
// where its two waits would stop the pipeline. A schedule that passes check_schedule gives one that
// does.
Schedule pair_neighbours(const Schedule& schedule);

// Every position starts with `extra[position]` more of its forwards, and its later ones move up as
// many places among its other work, whose order stays. Backwards then wait behind later forwards:
// the slots may come to a stand.
Schedule advance_forwards(const Schedule& schedule, const std::vector<int>& extra);

// The times of a layer of DeepSeek-V3 on H800 in ms, with nothing hidden and as a pair: where
// nothing better is known. Source: DeepSeek's published training trace (sums of its phases);
// analysed by Strait's authors.
inline SlotCosts published_slot_costs() {
  return {.forward = 24.3, .backward = 35.4, .weight = 7.5, .pair = 32.3};
}

struct PairingOptions {
  SlotCosts costs = published_slot_costs();  // W and FB given
  int most_live = 0;  // per position, as SlotCounts::peak_live_until_weight; 0: any number
};

struct Pairing {
  Schedule schedule{};
  // Forwards that position r of R starts with beyond those of the schedule as given: per_position *
  // (R - 1 - r) + all.
  int per_position = 0, all = 0;
  double makespan_before = 0, makespan_after = 0;  // at the options' costs
};

// The fastest of: the schedule as it is, and pair_neighbours of it with forwards advanced by
// different amounts (neighbouring positions in pairs wait for each other, unless the earlier one is
// further ahead with its forwards). Equally fast: the one with more pairs, then with fewer live.
// Thus never slower than what was given. REQUIRES: check_schedule has passed. Errors: those of
// require_slot_costs.
Pairing pair_schedule(const Schedule& schedule, const PairingOptions& options = {});

}  // namespace strait
