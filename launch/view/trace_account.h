// launch/view/trace_account.h: what every rank's time of a step went into, from the spans alone, so
// that predictions and measurements are summed by the same rule.
//
// The step lasts from the start of its first span to the end of its last, for all ranks. At each
// moment a rank computes or not, and has a transfer under way or not (a span of the lanes near,
// far, pipe and shard): hidden is both, exposed only the transfer, a bubble neither.
#pragma once

#include <vector>

#include "parallel/sim/trace.h"

namespace strait {

struct Stretch {
  double start_us = 0, end_us = 0;
  double length_us() const { return end_us - start_us; }
};

struct RankAccount {
  int rank = 0;
  std::vector<Stretch> hidden, exposed, bubbles;  // each in order, without overlap
  LaneAccount account;                            // idle_seconds: the bubbles
};

struct TraceAccount {
  double start_us = 0, end_us = 0;
  std::vector<RankAccount> ranks;  // those with spans, ascending
  LaneAccount total;               // the sums over ranks

  double makespan_us() const { return end_us - start_us; }
  double hidden_share() const;  // of the transfers; 0 without any
};

TraceAccount account_of(const Trace& trace);  // cost: O(n log n)

}  // namespace strait
