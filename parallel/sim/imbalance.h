// parallel/sim/imbalance.h: what unequal expert load costs, as a band around the mean.
//
// Experts never get equal shares of the tokens. The least it can cost is nothing: what one layer's
// busiest rank loses another's wins back before anybody waits. The most is that at every layer all
// wait for the busiest rank: its experts, and the exchanges through its links, take max / mean
// times as long. A simulation with the costs as they are and one with these give the two ends.
#pragma once

#include <span>
#include <vector>

#include "parallel/program/task.h"
#include "parallel/sim/simulate.h"

namespace strait {

// Seconds of dispatch, combine and experts times `max_over_mean`; latencies, bytes and all else as
// they are. REQUIRES: max_over_mean >= 1; costs[p][i] belongs to programs[p].tasks[i].
std::vector<std::vector<TaskCost>> with_every_skew_waited_for(
    std::span<const Program> programs, std::vector<std::vector<TaskCost>> costs,
    double max_over_mean);

}  // namespace strait
