// core/ops/cuda/kernels/quantize.cuh: the kernels of core/ops/cuda/quantize.h. Plain CUDA: this
// file also compiles for the CPU (tests/gpu/fiber_launch.h), where its results are checked without
// a GPU.
//
// A block takes a tile of 128 x 128 of x to shared memory, once, and makes from it what is asked.
// Outside of the matrix are zeros.
#pragma once

#include "core/ops/cuda/quantize.h"
#include "core/ops/cuda/scales.h"
#include "core/ops/math/fp8.h"

namespace strait::cuda {

constexpr int kQuantizeThreads = 256;
constexpr int kQuantizeWarps = kQuantizeThreads / 32;
constexpr int kTile = kScaleBlock;
// An odd number of 4-byte words a row: 32 lanes that read one column of 32 rows use 32 banks.
constexpr int kTileStride = kTile + 2;

struct QuantizeTile {
  uint16_t x[kTile * kTileStride];
  float warp_max[kQuantizeWarps];
};

// NaN counts as nothing, as fmaxf has it on every device.
__device__ inline float warp_max(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, offset));
  }
  return value;
}

// Reads the tile whose first element is (row, col); ends with all threads seeing it.
__device__ inline void load_tile(const uint16_t* x, int64_t rows, int64_t cols, int64_t row,
                                 int64_t col, QuantizeTile& tile) {
  constexpr int kPairs = kTile / 2;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kPairs; i += kQuantizeThreads) {
    const int r = i / kPairs, c = i % kPairs * 2;
    uint32_t pair = 0;
    if (row + r < rows && col + c < cols) memcpy(&pair, x + (row + r) * cols + col + c, 4);
    memcpy(&tile.x[r * kTileStride + c], &pair, 4);
  }
  __syncthreads();
}

// Of one line of the tile (a row, step 1, or a column, step kTileStride): lane l holds elements l,
// l + 32, l + 64, l + 96.
struct Line {
  float values[4];
  float max = 0;

  __device__ Line(const QuantizeTile& tile, int first, int step, int lane) {
    for (int i = 0; i < 4; i++) {
      values[i] = bf16_bits_to_float(tile.x[first + (lane + 32 * i) * step]);
      max = fmaxf(max, fabsf(values[i]));
    }
  }

  // To a row of the result, as far as it goes.
  __device__ void store(float scale, uint8_t* to, int64_t left, int lane) const {
    for (int i = 0; i < 4; i++) {
      if (lane + 32 * i < left) to[lane + 32 * i] = to_e4m3(values[i] / scale);
    }
  }
};

// blockIdx: (tile of columns, tile of rows).
__global__ void quantize_rows_kernel(QuantizeRows call) {
  __shared__ QuantizeTile tile;
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kTile,
                col = static_cast<int64_t>(blockIdx.x) * kTile;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  load_tile(static_cast<const uint16_t*>(call.x), call.rows, call.cols, row, col, tile);
  if (call.q != nullptr) {
    for (int r = warp; r < kTile && row + r < call.rows; r += kQuantizeWarps) {
      const Line line(tile, r * kTileStride, 1, lane);
      const float scale = fp8_scale(warp_max(line.max));
      line.store(scale, call.q + (row + r) * call.cols + col, call.cols - col, lane);
      if (lane == 0) {
        call.scales[scale_index(ScaleLayout::rows_1x128, call.rows, call.cols, row + r, col)] =
            scale;
      }
    }
  }
  if (call.transposed != nullptr) {
    for (int c = warp; c < kTile && col + c < call.cols; c += kQuantizeWarps) {
      const Line line(tile, c, kTileStride, lane);
      const float scale = fp8_scale(warp_max(line.max));
      line.store(scale, call.transposed + (col + c) * call.rows + row, call.rows - row, lane);
      if (lane == 0) {
        call.transposed_scales[scale_index(ScaleLayout::rows_1x128, call.cols, call.rows, col + c,
                                           row)] = scale;
      }
    }
  }
}

__global__ void quantize_blocks_kernel(QuantizeBlocks call) {
  __shared__ QuantizeTile tile;
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kTile,
                col = static_cast<int64_t>(blockIdx.x) * kTile;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  load_tile(static_cast<const uint16_t*>(call.x), call.rows, call.cols, row, col, tile);

  float max = 0;
  for (int r = warp; r < kTile; r += kQuantizeWarps)
    max = fmaxf(max, Line(tile, r * kTileStride, 1, lane).max);
  max = warp_max(max);
  if (lane == 0) tile.warp_max[warp] = max;
  __syncthreads();
  for (int w = 0; w < kQuantizeWarps; w++) max = fmaxf(max, tile.warp_max[w]);
  const float scale = fp8_scale(max);

  for (int r = warp; r < kTile && row + r < call.rows; r += kQuantizeWarps) {
    const Line line(tile, r * kTileStride, 1, lane);
    line.store(scale, call.q + (row + r) * call.cols + col, call.cols - col, lane);
  }
  if (call.transposed != nullptr) {
    for (int c = warp; c < kTile && col + c < call.cols; c += kQuantizeWarps) {
      const Line line(tile, c, kTileStride, lane);
      line.store(scale, call.transposed + (col + c) * call.rows + row, call.rows - row, lane);
    }
  }
  if (threadIdx.x == 0) {
    call.scales[scale_index(ScaleLayout::blocks_128x128, call.rows, call.cols, row, col)] = scale;
    if (call.transposed != nullptr) {
      call.transposed_scales[scale_index(ScaleLayout::blocks_128x128, call.cols, call.rows, col,
                                         row)] = scale;
    }
  }
}

}  // namespace strait::cuda
