// core/ops/cuda/router.h: core/ops/router.h on a GPU, with its bits.
// T tokens, E experts, K experts per token, B sequences of S tokens.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace strait::cuda {

constexpr int kMaxRoutedExperts = 1024, kMaxGroups = 128;

// RouteSettings, worked out: num_groups is 1 where nothing is limited.
struct RouterShape {
  int64_t tokens = 0;  // T
  int experts = 0;     // E. REQUIRES: <= kMaxRoutedExperts
  int top_k = 1;
  int num_groups = 1, topk_group = 1;  // REQUIRES: num_groups <= kMaxGroups, divides E
  bool softmax = false;                // else sigmoid
  bool sum_of_two = false;             // a group counts its two best, else its best
  bool norm_topk_prob = true;
  float factor = 1;  // routed_scaling_factor
};

// 4 bytes per logit.
struct Route {
  RouterShape shape;
  const float* logits = nullptr;  // [T, E]
  const float* bias = nullptr;    // [E]; may be null
  int* ids = nullptr;             // [T, K]
  float* weights = nullptr;       // [T, K]
};
void route(const Route& call, cudaStream_t stream);

// 8 bytes per logit.
struct RouteBackward {
  RouterShape shape;
  const float* d_weights = nullptr;  // [T, K]
  const float* logits = nullptr;     // [T, E]
  const int* ids = nullptr;          // [T, K], all in [0, E)
  float* d_logits = nullptr;         // [T, E], overwritten
};
void route_backward(const RouteBackward& call, cudaStream_t stream);

// 4 bytes per logit for the loss, 12 more for the gradient.
struct RouterBalance {
  RouterShape shape;
  const float* logits = nullptr;  // [T, E]
  const int* ids = nullptr;       // [T, K], all in [0, E)
  int64_t sequence_tokens = 0;    // S. REQUIRES: > 0, divides T
  double alpha = 0, gradient_scale = 1;
  float* loss = nullptr;      // [B]; may be null
  float* d_logits = nullptr;  // [T, E], added to; may be null
  float* partial = nullptr;   // [B, ceil(S / 128), E] scratch
  float* factors = nullptr;   // [B, E] scratch
};
void balance_loss(const RouterBalance& call, cudaStream_t stream);

}  // namespace strait::cuda
