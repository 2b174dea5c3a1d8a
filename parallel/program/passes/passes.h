// parallel/program/passes/passes.h: what makes programs of phases, one pass after the other, in
// this order.
//
// Every pass is a pure function. Up to `add_waiting_edges` tasks have no edges, only their order:
// on a lane it is the order they run in, and across lanes one that a single thread could follow.
#pragma once

#include <vector>

#include "parallel/program/lower.h"
#include "parallel/program/slot_times.h"

namespace strait {

// waves.cpp: the experts of a layer become `shape.waves` tasks, one after the other.
Program split_into_waves(const StepShape& shape, Program program);

// exchanges.cpp: dispatch and combine, and their inverses in backward, each after the task that
// makes what it sends.
Program add_exchanges(const StepShape& shape, Program program);

// peers.cpp: what crosses from stage to stage, in one order on all positions.
std::vector<Program> add_messages(const StepShape& shape, const Schedule& schedule,
                                  const SlotTimes& times, std::vector<Program> programs);

// gradient_buckets.cpp: one reduction per bucket, in one order on all positions that share buckets.
std::vector<Program> add_gradient_reductions(const StepShape& shape, const SlotTimes& times,
                                             std::vector<Program> programs);

// boundary.cpp: the update for the step before, in front. Without `commits` weights are gathered
// and packed only.
Program add_boundary(const StepShape& shape, bool commits, Program program);

// waiting_edges.cpp: the fewest edges that make every task wait for what it reads.
Program add_waiting_edges(const StepShape& shape, Program program);

}  // namespace strait
