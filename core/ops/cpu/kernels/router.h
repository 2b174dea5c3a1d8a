// core/ops/cpu/kernels/router.h: scores, choices and gradients of the router, rows [begin, end).
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"
#include "core/ops/math/router.h"

namespace strait::cpu {
struct Router {
  Rows logits, d_logits;  // FP32
  long num_experts = 0, top_k = 0;
  bool softmax = false, norm_topk_prob = false;
  float factor = 1;  // routed_scaling_factor
  // Choosing only. num_groups 1: no limit. sum_of_two: a group counts its two best, else its best.
  const float* bias = nullptr;  // may be null
  long num_groups = 1, topk_group = 1;
  bool sum_of_two = false;
  int* ids = nullptr;
  float* weights = nullptr;          // written by route
  const float* d_weights = nullptr;  // read by route_backward
};
}  // namespace strait::cpu

// scratch: 2 * num_experts + num_groups floats.
STRAIT_CPU_DECLARE(void route(const Router& args, long begin, long end, float* scratch))
STRAIT_CPU_DECLARE(void route_backward(const Router& args, long begin, long end, float* scratch))
// sums[i] = the sum over the rows of s_i / sum_j s_j.
STRAIT_CPU_DECLARE(void sum_normalised_scores(const Router& args, long begin, long end, float* sums,
                                              float* scratch))
// d_logits += the gradient of factors . p, where p_i = s_i / sum_j s_j.
STRAIT_CPU_DECLARE(void add_balance_gradient(const Router& args, const float* factors, long begin,
                                             long end, float* scratch))
