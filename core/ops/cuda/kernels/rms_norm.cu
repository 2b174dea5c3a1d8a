#include "core/ops/cuda/kernels/column_tree.cuh"
#include "core/ops/cuda/kernels/fp8_rows.cuh"
#include "core/ops/cuda/kernels/rows.cuh"
#include "core/ops/cuda/rms_norm.h"
#include "core/ops/math/rms_norm.h"

namespace strait::cuda {
namespace {

constexpr int kRowsPerPartialSum = 32;  // part of the result: the order of d_weight's sum
constexpr int kColumnThreads = 128;

__device__ float inverse_rms(float squares, int64_t cols, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(cols) + eps);
}

// A warp for each row, and in FP8 a tile of 128 columns at a time: two pairs of each thread.
__global__ void rms_norm_kernel(RmsNorm call) {
  const int64_t row = row_of_warp();
  if (row >= call.rows) return;
  Pair squares{{0, 0}};
  visit_pairs(call.cols, [&](int64_t col, int count) {
    const Pair x = Pair::load(call.x, row, col, count);
#pragma unroll
    for (int i = 0; i < 2; i++) squares.x[i] = fmaf(x.x[i], x.x[i], squares.x[i]);
  });
  const float r = inverse_rms(add_lanes(squares.x[0], squares.x[1]), call.cols, call.eps);
  const Rows weight{const_cast<float*>(call.weight), 0, false};
  for (int64_t tile = 0; tile < call.cols; tile += kScaleBlock) {
    Pair y[2];
    float max = 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int64_t col = tile + half * 64 + 2 * lane_of_warp(), count = call.cols - col;
      y[half] = Pair::load(call.x, row, col, count);
      const Pair w = Pair::load(weight, 0, col, count);
#pragma unroll
      for (int i = 0; i < 2; i++) y[half].x[i] = rms_norm_element<Scalar>(y[half].x[i], w.x[i], r);
      if (call.y.data != nullptr) y[half].store(call.y, row, col, count);
      if (call.q.codes == nullptr) continue;
      round_as(y[half], call.y.bf16);
      // Where r is not finite, so is 0 * r, and what is outside of the row must not count.
#pragma unroll
      for (int i = 0; i < 2; i++) max = i < count ? fmaxf(max, fabsf(y[half].x[i])) : max;
    }
    if (call.q.codes == nullptr) continue;
    const float scale = tile_scale(call.q, lanes_max(max, kWarpLanes));
#pragma unroll
    for (int half = 0; half < 2; half++) {
      put_fp8(call.q, call.rows, call.cols, row, tile + half * 64 + 2 * lane_of_warp(), y[half],
              scale);
    }
  }
}

// A warp for each row: dx, and what d_weight needs of it.
__global__ void rms_norm_dx_kernel(RmsNormBackward call) {
  const int64_t row = row_of_warp();
  if (row >= call.rows) return;
  const Rows weight{const_cast<float*>(call.weight), 0, false};
  Pair squares{{0, 0}}, dot{{0, 0}};
  visit_pairs(call.cols, [&](int64_t col, int count) {
    const Pair x = Pair::load(call.x, row, col, count), dy = Pair::load(call.dy, row, col, count);
    const Pair w = Pair::load(weight, 0, col, count);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      squares.x[i] = fmaf(x.x[i], x.x[i], squares.x[i]);
      dot.x[i] = fmaf(dy.x[i] * w.x[i], x.x[i], dot.x[i]);
    }
  });
  const float r = inverse_rms(add_lanes(squares.x[0], squares.x[1]), call.cols, call.eps);
  const float slope = rms_norm_slope(r, add_lanes(dot.x[0], dot.x[1]), call.cols);
  if (call.inverse != nullptr && lane_of_warp() == 0) call.inverse[row] = r;
  if (call.dx.data == nullptr) return;
  for (int64_t col = 2 * lane_of_warp(); col < call.cols; col += 64) {
    const int64_t count = call.cols - col;
    const Pair x = Pair::load(call.x, row, col, count), dy = Pair::load(call.dy, row, col, count);
    const Pair w = Pair::load(weight, 0, col, count);
    Pair dx;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      dx.x[i] = rms_norm_dx<Scalar>(dy.x[i], x.x[i], w.x[i], r, slope);
    }
    if (call.accumulate) {
      const Pair before = Pair::load(call.dx, row, col, count);
#pragma unroll
      for (int i = 0; i < 2; i++) dx.x[i] = before.x[i] + dx.x[i];
    }
    dx.store(call.dx, row, col, count);
  }
}

// A thread for two columns of kRowsPerPartialSum rows. blockIdx: (columns, rows).
__global__ void rms_norm_dw_kernel(RmsNormBackward call) {
  const int64_t col = 2 * (static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x);
  const int64_t count = call.cols - col,
                first = static_cast<int64_t>(blockIdx.y) * kRowsPerPartialSum;
  if (count <= 0) return;
  Pair sum{{0, 0}};
#pragma unroll 4
  for (int64_t row = first; row < least(first + kRowsPerPartialSum, call.rows); row++) {
    const Pair x = Pair::load(call.x, row, col, count), dy = Pair::load(call.dy, row, col, count);
    const float r = call.inverse[row];
#pragma unroll
    for (int i = 0; i < 2; i++) sum.x[i] = rms_norm_dw<Scalar>(dy.x[i], x.x[i], r, sum.x[i]);
  }
  sum.store({call.partial, call.cols, false}, blockIdx.y, col, count);
}

__global__ void rms_norm_dw_sum_kernel(RmsNormBackward call, int64_t chunks) {
  const int64_t col = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (col >= call.cols) return;
  call.d_weight[col] +=
      tree_over(chunks, [&](int64_t i) { return call.partial[i * call.cols + col]; });
}

}  // namespace

void rms_norm(const RmsNorm& call, cudaStream_t stream) {
  require(call.q.codes == nullptr || call.y.bf16, "rms_norm", "FP8 of a result that is not BF16");
  if (call.rows == 0 || call.cols == 0) return;
  STRAIT_LAUNCH(rms_norm_kernel, warp_blocks(call.rows), kRowThreads, stream, call);
}

void rms_norm_backward(const RmsNormBackward& call, cudaStream_t stream) {
  const char* op = "rms_norm_backward";
  if (call.rows == 0 || call.cols == 0) return;
  const int64_t chunks = ceil_div(call.rows, kRowsPerPartialSum);
  if (call.d_weight != nullptr) {
    require(call.inverse != nullptr && call.partial != nullptr, op, "d_weight needs scratch");
    require(chunks <= 65535, op, std::to_string(call.rows) + " rows are too many for d_weight");
  }
  // d_weight needs dy as it was: where dx overwrites it, dx comes last.
  const bool in_place = call.d_weight != nullptr && call.dx.data == call.dy.data;
  RmsNormBackward first = call;
  if (in_place) first.dx.data = nullptr;
  STRAIT_LAUNCH(rms_norm_dx_kernel, warp_blocks(call.rows), kRowThreads, stream, first);
  if (call.d_weight == nullptr) return;
  const auto pairs = static_cast<unsigned>(ceil_div(call.cols, 2 * kColumnThreads));
  STRAIT_LAUNCH(rms_norm_dw_kernel, dim3(pairs, static_cast<unsigned>(chunks)), kColumnThreads,
                stream, call);
  STRAIT_LAUNCH(rms_norm_dw_sum_kernel, static_cast<unsigned>(ceil_div(call.cols, kColumnThreads)),
                kColumnThreads, stream, call, chunks);
  if (in_place) {
    STRAIT_LAUNCH(rms_norm_dx_kernel, warp_blocks(call.rows), kRowThreads, stream, call);
  }
}

}  // namespace strait::cuda
