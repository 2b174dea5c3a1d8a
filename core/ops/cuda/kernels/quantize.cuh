// core/ops/cuda/kernels/quantize.cuh: the kernels of core/ops/cuda/quantize.h. Plain CUDA: this
// file also compiles for the CPU (tests/gpu/fiber_launch.h), where its results are checked without
// a GPU.
//
// A block reads a tile of 128 x 128 of x once, 16 bytes at a time, and makes from it what is asked.
// A thread keeps 8 rows x 8 columns in registers; 16 threads side by side have the same rows, and
// the rows' maxima go around among them; the columns' go through shared memory, and so do the
// transposed results, so that they too leave in whole rows. Outside of the matrix are zeros.
#pragma once

#include "core/ops/cuda/kernels/fp8_divide.cuh"
#include "core/ops/cuda/quantize.h"
#include "core/ops/math/fp8.h"
#include "core/ops/math/scales.h"

namespace strait::cuda {

constexpr int kQuantizeThreads = 256;
constexpr int kQuantizeWarps = kQuantizeThreads / 32;
constexpr int kTile = kScaleBlock;
constexpr int kPatch = 8;                 // rows and columns of one thread
constexpr int kPatches = kTile / kPatch;  // in each direction

struct QuantizeTile {
  // Transposed: row `column` of the tile, in chunks of 8 bytes; chunk c of it stands at place
  // c ^ column / 8, so that 16 threads that write the same chunk of columns 8 apart use all banks.
  uint64_t transposed[kTile][kPatches];
  float column_max[kQuantizeWarps][kTile], column_scale[kTile];
  float warp_max[kQuantizeWarps];
};

// Where a thread's patch stands in the tile.
struct Patch {
  int row = static_cast<int>(threadIdx.x) / kPatches * kPatch;
  int col = static_cast<int>(threadIdx.x) % kPatches * kPatch;
  uint32_t pairs[kPatch][kPatch / 2];  // of BF16, row by row

  // Reads x, whose tile starts at (tile_row, tile_col).
  __device__ void load(const void* x, int64_t rows, int64_t cols, int64_t tile_row,
                       int64_t tile_col) {
    const auto* from = static_cast<const uint16_t*>(x) + (tile_row + row) * cols + tile_col + col;
#pragma unroll
    for (int i = 0; i < kPatch; i++) {
      uint4 eight{0, 0, 0, 0};
      if (tile_row + row + i < rows && tile_col + col < cols) {
        eight = *reinterpret_cast<const uint4*>(from + i * cols);
      }
      memcpy(pairs[i], &eight, 16);
    }
  }
  __device__ float value(int r, int c) const {
    const uint32_t pair = pairs[r][c / 2], bits = c % 2 == 0 ? pair << 16 : pair & 0xffff0000u;
    float result;
    memcpy(&result, &bits, 4);
    return result;
  }
  __device__ float row_max(int r) const {
    float max = 0;
#pragma unroll
    for (int c = 0; c < kPatch; c++) max = fmaxf(max, fabsf(value(r, c)));
    return max;
  }
};

// Row r of the patch, as 8 bytes.
__device__ inline uint64_t row_of(const Patch& patch, int r, const Divide& divide) {
  uint64_t bytes = 0;
#pragma unroll
  for (int c = 0; c < kPatch; c += 2) {
    bytes |= two_e4m3(divide(patch.value(r, c)), divide(patch.value(r, c + 1))) << 8 * c;
  }
  return bytes;
}
__device__ inline uint64_t column_of(const Patch& patch, int c, const Divide& divide) {
  uint64_t bytes = 0;
#pragma unroll
  for (int r = 0; r < kPatch; r += 2) {
    bytes |= two_e4m3(divide(patch.value(r, c)), divide(patch.value(r + 1, c))) << 8 * r;
  }
  return bytes;
}

__device__ inline void keep_column(QuantizeTile& tile, const Patch& patch, int c, uint64_t bytes) {
  tile.transposed[patch.col + c][patch.row / kPatch ^ patch.col / kPatch] = bytes;
}

// The tile of `transposed` [cols, rows], whose first element is (tile_col, tile_row), out of shared
// memory: 8 threads a row, 16 bytes each.
__device__ inline void store_transposed(const QuantizeTile& tile, uint8_t* transposed, int64_t rows,
                                        int64_t cols, int64_t tile_row, int64_t tile_col) {
  constexpr int kThreadsOfRow = kTile / 16;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kThreadsOfRow; i += kQuantizeThreads) {
    const int col = i / kThreadsOfRow, chunk = i % kThreadsOfRow * 2, swizzle = col / kPatch;
    if (tile_col + col >= cols) break;
    const uint64_t bytes[2] = {tile.transposed[col][chunk ^ swizzle],
                               tile.transposed[col][(chunk + 1) ^ swizzle]};
    const int64_t row = tile_row + chunk * 8, left = rows - row;
    uint8_t* to = transposed + (tile_col + col) * rows + row;
    if (rows % 16 == 0) {
      if (left > 0) {
        uint4 all;
        memcpy(&all, bytes, 16);
        *reinterpret_cast<uint4*>(to) = all;
      }
    } else {
      for (int b = 0; b < 16 && b < left; b++) {
        to[b] = static_cast<uint8_t>((b < 8 ? bytes[0] : bytes[1]) >> b % 8 * 8);
      }
    }
  }
}

// blockIdx: (tile of columns, tile of rows).
__global__ void __launch_bounds__(kQuantizeThreads, 3) quantize_rows_kernel(QuantizeRows call) {
  __shared__ QuantizeTile tile;
  const int64_t tile_row = static_cast<int64_t>(blockIdx.y) * kTile,
                tile_col = static_cast<int64_t>(blockIdx.x) * kTile;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  Patch patch;
  patch.load(call.x, call.rows, call.cols, tile_row, tile_col);
  if (call.q != nullptr) {
#pragma unroll
    for (int r = 0; r < kPatch; r++) {
      const float scale = fp8_scale(lanes_max(patch.row_max(r), kPatches));
      const int64_t row = tile_row + patch.row + r, col = tile_col + patch.col;
      if (row >= call.rows || col >= call.cols) continue;
      *reinterpret_cast<uint64_t*>(call.q + row * call.cols + col) =
          row_of(patch, r, Divide(scale));
      if (patch.col == 0) {
        call.scales[scale_index(ScaleLayout::rows_1x128, call.rows, call.cols, row, col)] = scale;
      }
    }
  }
  if (call.transposed == nullptr) return;
#pragma unroll
  for (int c = 0; c < kPatch; c++) {
    float max = 0;
#pragma unroll
    for (int r = 0; r < kPatch; r++) max = fmaxf(max, fabsf(patch.value(r, c)));
    max = fmaxf(max, __shfl_xor_sync(~0u, max, kPatches));  // the rows of a warp's other half
    if (lane < kPatches) tile.column_max[warp][patch.col + c] = max;
  }
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x);
  if (column < kTile) {
    float max = 0;
#pragma unroll
    for (int w = 0; w < kQuantizeWarps; w++) max = fmaxf(max, tile.column_max[w][column]);
    const float scale = fp8_scale(max);
    tile.column_scale[column] = scale;
    if (tile_col + column < call.cols) {
      call.transposed_scales[scale_index(ScaleLayout::rows_1x128, call.cols, call.rows,
                                         tile_col + column, tile_row)] = scale;
    }
  }
  __syncthreads();
#pragma unroll
  for (int c = 0; c < kPatch; c++) {
    keep_column(tile, patch, c, column_of(patch, c, Divide(tile.column_scale[patch.col + c])));
  }
  __syncthreads();
  store_transposed(tile, call.transposed, call.rows, call.cols, tile_row, tile_col);
}

__global__ void __launch_bounds__(kQuantizeThreads, 3) quantize_blocks_kernel(QuantizeBlocks call) {
  __shared__ QuantizeTile tile;
  const int64_t tile_row = static_cast<int64_t>(blockIdx.y) * kTile,
                tile_col = static_cast<int64_t>(blockIdx.x) * kTile;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  Patch patch;
  patch.load(call.x, call.rows, call.cols, tile_row, tile_col);
  float max = 0;
#pragma unroll
  for (int r = 0; r < kPatch; r++) max = fmaxf(max, patch.row_max(r));
  max = lanes_max(max, 32);
  if (lane == 0) tile.warp_max[warp] = max;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kQuantizeWarps; w++) max = fmaxf(max, tile.warp_max[w]);
  const float scale = fp8_scale(max);
  const Divide divide(scale);

#pragma unroll
  for (int r = 0; r < kPatch; r++) {
    const int64_t row = tile_row + patch.row + r, col = tile_col + patch.col;
    if (row < call.rows && col < call.cols) {
      *reinterpret_cast<uint64_t*>(call.q + row * call.cols + col) = row_of(patch, r, divide);
    }
  }
  if (threadIdx.x == 0) {
    call.scales[scale_index(ScaleLayout::blocks_128x128, call.rows, call.cols, tile_row,
                            tile_col)] = scale;
  }
  if (call.transposed == nullptr) return;
#pragma unroll
  for (int c = 0; c < kPatch; c++) keep_column(tile, patch, c, column_of(patch, c, divide));
  if (threadIdx.x == 0) {
    call.transposed_scales[scale_index(ScaleLayout::blocks_128x128, call.cols, call.rows, tile_col,
                                       tile_row)] = scale;
  }
  __syncthreads();
  store_transposed(tile, call.transposed, call.rows, call.cols, tile_row, tile_col);
}

}  // namespace strait::cuda
