// parallel/sim/price.h: from a step's work to what each of its tasks takes alone on a cluster.
//
// Compute is the sum over its ops, by the formulas of parallel/sim/cluster.h. A flat exchange sends
// a token's row to every rank that has experts for it. One on two tiers sends it once to each
// remote node that has, and passes it on over the fabric to the ranks there. Fabric and network run
// under each other, so an exchange takes the longer of both; on two tiers, where rows take one hop
// after the other in chunks, and one chunk of the shorter. Collectives likewise: inside the node,
// and between the ranks in the same place of each node. Even expert load (parallel/sim/imbalance.h
// scales it). Pure functions.
#pragma once

#include <span>
#include <vector>

#include "parallel/program/task.h"
#include "parallel/sim/cluster.h"
#include "parallel/sim/model_work.h"
#include "parallel/sim/simulate.h"

namespace strait {

double op_seconds(const Cluster& cluster, const TaskOp& op);

// What one rank sends in an exchange, payload; all its waves together.
struct ExchangeLoad {
  double far_bytes = 0, near_bytes = 0;
};
ExchangeLoad exchange_load(const ModelWork& work, Kind kind, Pass pass);
// Of one of an exchange's waves.
TaskCost exchange_cost(const Cluster& cluster, const ModelWork& work, Kind kind, Pass pass,
                       int num_waves = 1);

// REQUIRES: programs lowered from the shape that `work` was made for: its layers, stages and
// buckets. cost[position][task].
std::vector<std::vector<TaskCost>> price_programs(const Cluster& cluster, const ModelWork& work,
                                                  std::span<const Program> programs);

}  // namespace strait
