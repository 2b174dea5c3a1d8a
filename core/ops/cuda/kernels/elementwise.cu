#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/kernels/rows.cuh"

namespace strait::cuda {
namespace {

__global__ void cast_kernel(RowPair call, unsigned blocks_per_row) {
  const ChunkPlace at(blocks_per_row);
  if (at.col < call.cols) copy_chunk(call.x, at.row, call.y, at.row, at.col, call.cols - at.col);
}

__global__ void add_kernel(RowPair call, unsigned blocks_per_row) {
  const ChunkPlace at(blocks_per_row);
  const int64_t count = call.cols - at.col;
  if (count <= 0) return;
  const Eight x = Eight::load(call.x, at.row, at.col, count);
  Eight y = Eight::load(call.y, at.row, at.col, count);
#pragma unroll
  for (int i = 0; i < kChunk; i++) y.x[i] += x.x[i];
  y.store(call.y, at.row, at.col, count);
}

__global__ void fill_kernel(Fill call, unsigned blocks_per_row) {
  const ChunkPlace at(blocks_per_row);
  if (at.col >= call.cols) return;
  Eight x;
#pragma unroll
  for (int i = 0; i < kChunk; i++) x.x[i] = call.value;
  x.store(call.x, at.row, at.col, call.cols - at.col);
}

// A warp sums the squares of kElementsPerSquaresSum elements.
__global__ void squares_kernel(SumOfSquares call) {
  const int64_t first = row_of_warp() * kElementsPerSquaresSum;
  if (first >= call.numel) return;
  double even = 0, odd = 0;
  visit_pairs(least(kElementsPerSquaresSum, call.numel - first), [&](int64_t col, int count) {
    const Pair x = Pair::load(call.x, 0, first + col, count);
    even += static_cast<double>(x.x[0]) * x.x[0];
    odd += static_cast<double>(x.x[1]) * x.x[1];
  });
  const double sum = add_lanes(even, odd);
  if (lane_of_warp() == 0) call.partial[row_of_warp()] = sum;
}

constexpr int kSquaresThreads = 1024;

// partial[i] += partial[i + step] for steps 1, 2, 4 and so on. One block.
__global__ void tree_kernel(SumOfSquares call, int64_t count) {
  for (int64_t step = 1; step < count; step *= 2) {
    for (int64_t i = threadIdx.x * 2 * step; i + step < count; i += kSquaresThreads * 2 * step) {
      call.partial[i] += call.partial[i + step];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *call.sum = count == 0 ? 0 : call.partial[0];
}

// A matrix without gaps is one row.
bool is_flat(const Rows& rows, int64_t cols) { return rows.stride == cols; }

// One row where both matrices have no gaps.
RowPair flattened(RowPair call) {
  if (is_flat(call.x, call.cols) && is_flat(call.y, call.cols)) {
    call.cols *= call.rows;
    call.rows = 1;
  }
  return call;
}

}  // namespace

void cast(const RowPair& call, cudaStream_t stream) {
  const RowPair flat = flattened(call);
  const ChunkGrid grid(flat.rows, ceil_div(flat.cols, kChunk));
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(cast_kernel, grid.blocks, grid.threads, stream, flat, grid.blocks_per_row);
}

void add(const RowPair& call, cudaStream_t stream) {
  const RowPair flat = flattened(call);
  const ChunkGrid grid(flat.rows, ceil_div(flat.cols, kChunk));
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(add_kernel, grid.blocks, grid.threads, stream, flat, grid.blocks_per_row);
}

void fill(const Fill& call, cudaStream_t stream) {
  Fill flat = call;
  if (is_flat(call.x, call.cols)) flat.rows = 1, flat.cols = call.rows * call.cols;
  const ChunkGrid grid(flat.rows, ceil_div(flat.cols, kChunk));
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(fill_kernel, grid.blocks, grid.threads, stream, flat, grid.blocks_per_row);
}

void sum_of_squares(const SumOfSquares& call, cudaStream_t stream) {
  const int64_t sums = sums_of_squares(call.numel);
  if (sums > 0) STRAIT_LAUNCH(squares_kernel, warp_blocks(sums), kRowThreads, stream, call);
  STRAIT_LAUNCH(tree_kernel, 1, kSquaresThreads, stream, call, sums);
}

}  // namespace strait::cuda
