#include "core/ops/cuda/kernels/column_tree.cuh"
#include "core/ops/cuda/kernels/rows.cuh"
#include "core/ops/cuda/router.h"
#include "core/ops/math/router.h"

namespace strait::cuda {
namespace {

// A warp for each token, with this in shared memory.
struct TokenScores {
  float scores[kMaxRoutedExperts], other[kMaxRoutedExperts];
  float groups[kMaxGroups];
};

// The scores of one token, as the CPU's row_scores.
__device__ void row_scores(const RouterShape& shape, const float* logits, float* scores) {
  const int lane = lane_of_warp();
  if (!shape.softmax) {
    for (int e = lane; e < shape.experts; e += kWarpLanes) scores[e] = sigmoid<Scalar>(logits[e]);
    __syncwarp();
    return;
  }
  float top = -INFINITY;
  for (int e = lane; e < shape.experts; e += kWarpLanes) top = fmaxf(logits[e], top);
#pragma unroll
  for (int distance = kWarpLanes / 2; distance > 0; distance /= 2) {
    top = fmaxf(top, __shfl_xor_sync(~0u, top, distance));
  }
  float sums[2] = {0, 0};
  visit_pairs(shape.experts, [&](int64_t e, int count) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (i >= count) continue;
      scores[e + i] = exp_f32(logits[e + i] - top);
      sums[i] += scores[e + i];
    }
  });
  const float total = add_lanes(sums[0], sums[1]);
  __syncwarp();
  for (int e = lane; e < shape.experts; e += kWarpLanes) scores[e] = scores[e] / total;
  __syncwarp();
}

// Sums over the experts in the CPU's order.
__device__ float row_sum(const float* x, int count) {
  float sums[2] = {0, 0};
  visit_pairs(count, [&](int64_t e, int valid) {
    sums[0] += x[e];
    if (valid == 2) sums[1] += x[e + 1];
  });
  return add_lanes(sums[0], sums[1]);
}
__device__ float row_dot(const float* x, const float* y, int count) {
  float sums[2] = {0, 0};
  visit_pairs(count, [&](int64_t e, int valid) {
    sums[0] = fmaf(x[e], y[e], sums[0]);
    if (valid == 2) sums[1] = fmaf(x[e + 1], y[e + 1], sums[1]);
  });
  return add_lanes(sums[0], sums[1]);
}

// The lowest index of the largest element; all threads get it.
__device__ int argmax(const float* x, int count) {
  float best = -INFINITY;
  int where = lane_of_warp();
  for (int i = lane_of_warp(); i < count; i += kWarpLanes) {
    if (x[i] > best) {
      best = x[i];
      where = i;
    }
  }
#pragma unroll
  for (int distance = kWarpLanes / 2; distance > 0; distance /= 2) {
    const float theirs = __shfl_xor_sync(~0u, best, distance);
    const int there = __shfl_xor_sync(~0u, where, distance);
    if (theirs > best || (theirs == best && there < where)) {
      best = theirs;
      where = there;
    }
  }
  return where;
}

// Masks all but the best groups with -inf.
__device__ void limit_groups(const RouterShape& shape, float* biased, float* groups) {
  const int size = shape.experts / shape.num_groups, lane = lane_of_warp();
  for (int g = lane; g < shape.num_groups; g += kWarpLanes) {
    groups[g] = above_masked(group_score(biased + g * size, size, shape.sum_of_two));
  }
  __syncwarp();
  for (int k = 0; k < shape.topk_group; k++) {
    const int best = argmax(groups, shape.num_groups);
    __syncwarp();
    if (lane == 0) groups[best] = -INFINITY;
    __syncwarp();
  }
  for (int e = lane; e < shape.experts; e += kWarpLanes) {
    if (groups[e / size] != -INFINITY) biased[e] = -INFINITY;
  }
  __syncwarp();
}

__global__ void route_kernel(Route call) {
  __shared__ TokenScores all[kRowsPerBlock];
  const int64_t token = row_of_warp();
  if (token >= call.shape.tokens) return;
  const RouterShape& shape = call.shape;
  const int lane = lane_of_warp();
  TokenScores& mine = all[warp_of_block()];
  row_scores(shape, call.logits + token * shape.experts, mine.scores);
  for (int e = lane; e < shape.experts; e += kWarpLanes) {
    mine.other[e] =
        above_masked(call.bias != nullptr ? mine.scores[e] + call.bias[e] : mine.scores[e]);
  }
  __syncwarp();
  if (shape.num_groups > 1) limit_groups(shape, mine.other, mine.groups);
  int* ids = call.ids + token * shape.top_k;
  for (int k = 0; k < shape.top_k; k++) {
    const int best = argmax(mine.other, shape.experts);
    __syncwarp();
    if (lane == 0) {
      ids[k] = best;
      mine.other[best] = -INFINITY;
    }
    __syncwarp();
  }
  const float divisor = shape.norm_topk_prob ? chosen_sum(mine.scores, ids, shape.top_k) : 1.0f;
  for (int k = lane; k < shape.top_k; k += kWarpLanes) {
    call.weights[token * shape.top_k + k] = mine.scores[ids[k]] / divisor * shape.factor;
  }
}

// d_logits (=, or +=) from the scores and their gradients.
template <bool kAdd>
__device__ void score_gradient(const RouterShape& shape, const float* scores, const float* d_scores,
                               float* d_logits) {
  const float mean = shape.softmax ? row_dot(scores, d_scores, shape.experts) : 0;
  for (int e = lane_of_warp(); e < shape.experts; e += kWarpLanes) {
    const float g = shape.softmax ? softmax_gradient<Scalar>(scores[e], d_scores[e], mean)
                                  : sigmoid_gradient<Scalar>(scores[e], d_scores[e]);
    d_logits[e] = kAdd ? d_logits[e] + g : g;
  }
}

__global__ void route_backward_kernel(RouteBackward call) {
  __shared__ TokenScores all[kRowsPerBlock];
  const int64_t token = row_of_warp();
  if (token >= call.shape.tokens) return;
  const RouterShape& shape = call.shape;
  TokenScores& mine = all[warp_of_block()];
  row_scores(shape, call.logits + token * shape.experts, mine.scores);
  for (int e = lane_of_warp(); e < shape.experts; e += kWarpLanes) mine.other[e] = 0;
  __syncwarp();
  const int* ids = call.ids + token * shape.top_k;
  const float* d_weights = call.d_weights + token * shape.top_k;
  float divisor = 1, shared = 0;
  if (shape.norm_topk_prob) {
    divisor = chosen_sum(mine.scores, ids, shape.top_k);
    for (int k = 0; k < shape.top_k; k++) shared += d_weights[k] * (mine.scores[ids[k]] / divisor);
  }
  for (int k = lane_of_warp(); k < shape.top_k; k += kWarpLanes) {
    mine.other[ids[k]] = (d_weights[k] - shared) / divisor * shape.factor;
  }
  __syncwarp();
  score_gradient<false>(shape, mine.scores, mine.other, call.d_logits + token * shape.experts);
}

// A block for kTokensPerPartialSum tokens of a sequence: each warp makes the scores of a token, and
// the block adds them in the order of the tokens. blockIdx: (chunk, sequence).
__global__ void mean_scores_kernel(RouterBalance call) {
  __shared__ TokenScores all[kRowsPerBlock];
  const RouterShape& shape = call.shape;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTokensPerPartialSum,
                end = least(call.sequence_tokens, first + kTokensPerPartialSum);
  const int64_t sequence = static_cast<int64_t>(blockIdx.y) * call.sequence_tokens;
  float* sums =
      call.partial + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * shape.experts;
  const int thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < shape.experts; e += kRowThreads) sums[e] = 0;
  for (int64_t start = first; start < end; start += kRowsPerBlock) {
    const int64_t token = start + warp_of_block();
    if (token < end) {
      float* scores = all[warp_of_block()].scores;
      row_scores(shape, call.logits + (sequence + token) * shape.experts, scores);
      const float total = shape.softmax ? 1.0f : row_sum(scores, shape.experts);
      for (int e = lane_of_warp(); e < shape.experts; e += kWarpLanes) {
        scores[e] = scores[e] / total;
      }
    }
    __syncthreads();
    const int here = static_cast<int>(least(kRowsPerBlock, end - start));
    for (int e = thread; e < shape.experts; e += kRowThreads) {
      float sum = sums[e];
      for (int w = 0; w < here; w++) sum += all[w].scores[e];
      sums[e] = sum;
    }
    __syncthreads();
  }
}

constexpr int kFinishThreads = 256;

// A block for each sequence: its loss, and the gradient of each expert's mean score.
__global__ void balance_kernel(RouterBalance call, int64_t chunks) {
  __shared__ int counts[kMaxRoutedExperts];
  __shared__ double terms[kMaxRoutedExperts];
  const RouterShape& shape = call.shape;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t sequence = blockIdx.x, picks = call.sequence_tokens * shape.top_k;
  for (int e = thread; e < shape.experts; e += kFinishThreads) counts[e] = 0;
  __syncthreads();
  for (int64_t i = thread; i < picks; i += kFinishThreads) {
    atomicAdd(&counts[call.ids[sequence * picks + i]], 1);
  }
  __syncthreads();
  const float* partial = call.partial + sequence * chunks * shape.experts;
  const auto tokens = static_cast<double>(call.sequence_tokens);
  for (int e = thread; e < shape.experts; e += kFinishThreads) {
    const float sum = tree_over(chunks, [&](int64_t i) { return partial[i * shape.experts + e]; });
    const double f = counts[e] * static_cast<double>(shape.experts) / (shape.top_k * tokens);
    terms[e] = f * (static_cast<double>(sum) / tokens);
    call.factors[sequence * shape.experts + e] =
        static_cast<float>(call.gradient_scale * call.alpha * f / tokens);
  }
  __syncthreads();
  if (thread != 0 || call.loss == nullptr) return;
  double total = 0;
  for (int e = 0; e < shape.experts; e++) total += terms[e];
  call.loss[sequence] = static_cast<float>(call.alpha * total);
}

__global__ void balance_gradient_kernel(RouterBalance call) {
  __shared__ TokenScores all[kRowsPerBlock];
  const int64_t token = row_of_warp();
  if (token >= call.shape.tokens) return;
  const RouterShape& shape = call.shape;
  TokenScores& mine = all[warp_of_block()];
  row_scores(shape, call.logits + token * shape.experts, mine.scores);
  const float* factors = call.factors + token / call.sequence_tokens * shape.experts;
  float* d_logits = call.d_logits + token * shape.experts;
  if (shape.softmax) {
    score_gradient<true>(shape, mine.scores, factors, d_logits);
    return;
  }
  // p_i = s_i / Z:  d / d s_j = (factor_j - sum_i factor_i p_i) / Z.
  const float total = row_sum(mine.scores, shape.experts);
  const float mean = row_dot(factors, mine.scores, shape.experts) / total, inverse = 1.0f / total;
  for (int e = lane_of_warp(); e < shape.experts; e += kWarpLanes) {
    mine.other[e] = (factors[e] - mean) * inverse;
  }
  __syncwarp();
  score_gradient<true>(shape, mine.scores, mine.other, d_logits);
}

void check(const char* op, const RouterShape& shape) {
  require(shape.experts >= 1 && shape.experts <= kMaxRoutedExperts, op,
          std::to_string(shape.experts) + " experts; 1 to " + std::to_string(kMaxRoutedExperts) +
              " are possible");
  require(shape.num_groups >= 1 && shape.num_groups <= kMaxGroups &&
              shape.experts % shape.num_groups == 0,
          op,
          std::to_string(shape.num_groups) + " groups of " + std::to_string(shape.experts) +
              " experts");
  require(shape.topk_group >= 1 && shape.topk_group <= shape.num_groups && shape.top_k >= 1 &&
              shape.top_k <= shape.experts / shape.num_groups * shape.topk_group,
          op,
          "top_k " + std::to_string(shape.top_k) + " of " + std::to_string(shape.topk_group) +
              " groups");
}

}  // namespace

void route(const Route& call, cudaStream_t stream) {
  check("route", call.shape);
  if (call.shape.tokens == 0) return;
  STRAIT_LAUNCH(route_kernel, warp_blocks(call.shape.tokens), kRowThreads, stream, call);
}

void route_backward(const RouteBackward& call, cudaStream_t stream) {
  check("route_backward", call.shape);
  if (call.shape.tokens == 0) return;
  STRAIT_LAUNCH(route_backward_kernel, warp_blocks(call.shape.tokens), kRowThreads, stream, call);
}

void balance_loss(const RouterBalance& call, cudaStream_t stream) {
  const char* op = "balance_loss";
  check(op, call.shape);
  require(call.sequence_tokens > 0 && call.shape.tokens % call.sequence_tokens == 0, op,
          "sequences of " + std::to_string(call.sequence_tokens) + " tokens do not divide " +
              std::to_string(call.shape.tokens) + " tokens");
  const int64_t sequences = call.shape.tokens / call.sequence_tokens,
                chunks = ceil_div(call.sequence_tokens, kTokensPerPartialSum);
  require(sequences <= 65535, op, std::to_string(sequences) + " sequences are too many");
  if (sequences == 0) return;
  const dim3 grid(static_cast<unsigned>(chunks), static_cast<unsigned>(sequences));
  STRAIT_LAUNCH(mean_scores_kernel, grid, kRowThreads, stream, call);
  STRAIT_LAUNCH(balance_kernel, static_cast<unsigned>(sequences), kFinishThreads, stream, call,
                chunks);
  if (call.d_logits == nullptr) return;
  STRAIT_LAUNCH(balance_gradient_kernel, warp_blocks(call.shape.tokens), kRowThreads, stream, call);
}

}  // namespace strait::cuda
