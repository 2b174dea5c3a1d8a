#include "core/ops/cuda/cross_entropy.h"
#include "core/ops/cuda/kernels/rows.cuh"

namespace strait::cuda {
namespace {

constexpr int kLossThreads = 512, kLossWarps = kLossThreads / kWarpLanes;
constexpr int kPerSum = 1024;  // columns; part of the result: the order of the exponentials' sum

struct RowState {
  float warp_max[kLossWarps];
  double sums[kMaxVocabulary / kPerSum];
  double sum;
};

// The largest of a row; all threads get it.
__device__ float row_max(RowState& state, const Rows& logits, int64_t row, int64_t cols) {
  float max = -INFINITY;
  for (int64_t col = 4 * threadIdx.x; col < cols; col += 4 * kLossThreads) {
    const auto x = Part<4>::load(logits, row, col, cols - col);
#pragma unroll
    for (int i = 0; i < 4; i++) max = i < cols - col ? fmaxf(max, x.x[i]) : max;
  }
#pragma unroll
  for (int distance = kWarpLanes / 2; distance > 0; distance /= 2) {
    max = fmaxf(max, __shfl_xor_sync(~0u, max, distance));
  }
  if (lane_of_warp() == 0) state.warp_max[warp_of_block()] = max;
  __syncthreads();
  for (int w = 0; w < kLossWarps; w++) max = fmaxf(max, state.warp_max[w]);
  return max;
}

// The sum of exp(x - max): FP32 within kPerSum columns, by a warp, then FP64.
__device__ double row_sum_exp(RowState& state, const Rows& logits, int64_t row, int64_t cols,
                              float max) {
  const int64_t sums = ceil_div(cols, kPerSum);
  for (int64_t s = warp_of_block(); s < sums; s += kLossWarps) {
    const int64_t first = s * kPerSum;
    Pair sum{{0, 0}};
    visit_pairs(least(kPerSum, cols - first), [&](int64_t col, int count) {
      const Pair x = Pair::load(logits, row, first + col, count);
#pragma unroll
      for (int i = 0; i < 2; i++)
        sum.x[i] = i < count ? sum.x[i] + exp_f32(x.x[i] - max) : sum.x[i];
    });
    const float total = add_lanes(sum.x[0], sum.x[1]);
    if (lane_of_warp() == 0) state.sums[s] = total;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double sum = 0;
    for (int64_t s = 0; s < sums; s++) sum += state.sums[s];
    state.sum = sum;
  }
  __syncthreads();
  return state.sum;
}

// A block for each token.
__global__ void cross_entropy_kernel(CrossEntropy call) {
  __shared__ RowState state;
  const int64_t row = blockIdx.x;
  const int target = call.targets[row];
  const Rows logits{call.logits, call.stride, false};
  const float max = target < 0 ? 0 : row_max(state, logits, row, call.cols);
  const double sum = target < 0 ? 1 : row_sum_exp(state, logits, row, call.cols, max);
  const float at_target = target < 0 ? 0 : call.logits[row * call.stride + target];
  if (threadIdx.x == 0) {
    call.nll[row] =
        target < 0 ? 0 : static_cast<float>(log(sum) - (static_cast<double>(at_target) - max));
  }
  if (!call.gradient) return;
  __syncthreads();  // all have read the logit that becomes a gradient
  const auto factor = static_cast<float>(call.scale / sum);
  for (int64_t col = 4 * threadIdx.x; col < call.cols; col += 4 * kLossThreads) {
    const int64_t count = call.cols - col;
    auto x = Part<4>::load(logits, row, col, count);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float e = exp_f32(x.x[i] - max);
      x.x[i] = target < 0 ? 0 : e * factor;
      if (col + i == target) {
        x.x[i] = static_cast<float>((static_cast<double>(e) / sum - 1) * call.scale);
      }
    }
    x.store(logits, row, col, count);
  }
}

}  // namespace

void cross_entropy(const CrossEntropy& call, cudaStream_t stream) {
  require(call.cols >= 1 && call.cols <= kMaxVocabulary, "cross_entropy",
          std::to_string(call.cols) + " columns; 1 to " + std::to_string(kMaxVocabulary) +
              " are possible");
  require(call.rows <= 0x7fffffff, "cross_entropy",
          std::to_string(call.rows) + " rows are too many");
  if (call.rows == 0) return;
  STRAIT_LAUNCH(cross_entropy_kernel, static_cast<unsigned>(call.rows), kLossThreads, stream, call);
}

}  // namespace strait::cuda
