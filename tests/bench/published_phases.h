// tests/bench/published_phases.h: the phases of DeepSeek's published trace priced from FLOPs, bytes
// and the cluster file alone: DeepSeek-V3's MoE layer in FP8, experts over 64 ranks, 4096 tokens.
#pragma once

#include <array>
#include <vector>

#include "launch/engine/engine_settings.h"
#include "launch/plan/step_costs.h"
#include "parallel/sim/price.h"
#include "recipes/cluster.h"
#include "recipes/recipe.h"
#include "tests/bench/layer_pair.h"

namespace strait {

class PublishedPhases {
 public:
  explicit PublishedPhases(const Cluster& cluster) : cluster_(cluster) {
    const Recipe recipe = load_recipe(STRAIT_RECIPES "/deepseek-v3.yaml");
    work_ = measure_step({.engine = engine_settings(recipe, Mesh(128, 1, 64), 1),
                          .precision = Precision::fp8,
                          .expert = 64,
                          .ranks_per_node = cluster.ranks_per_node,
                          .two_tier = true});
    work_.stages = {{0, static_cast<int>(work_.like.size()), true, true}};
  }

  // Alone. The trace's mlp phases are `experts`: routed and shared experts in one.
  TaskCost cost(Kind kind, Pass pass) const {
    const bool exchange = kind == Kind::dispatch || kind == Kind::combine;
    Program program;
    program.tasks.push_back({.kind = kind, .pass = pass, .microbatch = 0, .layer = kLayer});
    if (kind == Kind::experts) {
      program.tasks.push_back(program.tasks[0]);
      program.tasks[1].kind = Kind::shared;
    }
    if (exchange) program.tasks[0].lane = Lane::far;
    const std::vector<TaskCost> costs = price_programs(cluster_, work_, std::vector{program})[0];
    TaskCost sum = costs[0];
    if (costs.size() > 1) sum.seconds += costs[1].seconds;
    return sum;
  }

  std::vector<std::vector<TaskCost>> costs(const Program& pair) const {
    std::vector<std::vector<TaskCost>> result(1);
    for (const Task& task : pair.tasks) result[0].push_back(cost(task.kind, task.pass));
    return result;
  }

  // Compute of one layer's forward and backward, alone: seconds by what the trace sorts its kernels
  // into.
  enum Class {
    kWeightGradient,
    kGrouped,
    kDense,
    kAttentionForward,
    kAttentionBackward,
    kRest,
    kNumClasses
  };
  std::array<double, kNumClasses> by_class() const {
    std::array<double, kNumClasses> seconds{};
    for (const auto& [key, phase] : work_.phases) {
      if (key.layer != work_.like_layer(kLayer) || key.kind == Kind::head) continue;
      for (const TaskOp& op : phase.ops) {
        const OpClass c = op.cost.op_class;
        const bool product = c == OpClass::linear || c == OpClass::expert;
        const Class to = product && op.cost.gemm.weight_gradient ? kWeightGradient
                         : c == OpClass::expert                  ? kGrouped
                         : c == OpClass::linear                  ? kDense
                         : c != OpClass::attention               ? kRest
                         : op.cost.again_flops > 0               ? kAttentionBackward
                                                                 : kAttentionForward;
        seconds[to] += op_seconds(cluster_, op);
      }
    }
    return seconds;
  }

  const Cluster& cluster() const { return cluster_; }

 private:
  static constexpr int kLayer = 30;  // any MoE layer between two others
  const Cluster& cluster_;
  ModelWork work_;
};

}  // namespace strait
