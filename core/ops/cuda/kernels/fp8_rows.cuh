// core/ops/cuda/kernels/fp8_rows.cuh: what the kernels share that give FP8 rows.
#pragma once

#include <cuda_fp8.h>

#include "core/ops/cuda/fp8_rows.h"
#include "core/ops/cuda/kernels/fp8_divide.cuh"
#include "core/ops/cuda/kernels/rows.cuh"

namespace strait::cuda {

__device__ inline float tile_scale(const Fp8Rows& q, float max) {
  const float scale = fp8_scale(fmaxf(max, q.least_max));
  return q.power_of_two ? power_of_two_scale(scale) : scale;
}

// The largest magnitude; NaN counts as nothing.
template <int kCount>
__device__ float magnitude(const Part<kCount>& part) {
  float max = 0;
#pragma unroll
  for (int i = 0; i < kCount; i++) max = fmaxf(max, fabsf(part.x[i]));
  return max;
}

// The codes of a part, and where it starts a tile, the tile's scale.
template <int kCount>
__device__ void put_fp8(const Fp8Rows& q, int64_t rows, int64_t cols, int64_t row, int64_t col,
                        const Part<kCount>& part, float scale) {
  if (col >= cols) return;
  const Divide divide(scale);
  uint8_t codes[kCount];
#pragma unroll
  for (int i = 0; i < kCount; i += 2) {
    const auto two = static_cast<uint16_t>(two_e4m3(divide(part.x[i]), divide(part.x[i + 1])));
    memcpy(codes + i, &two, 2);
  }
  uint8_t* to = q.codes + row * cols + col;
  using Moved = std::conditional_t<kCount == 8, uint2, uint16_t>;
  if (cols - col >= kCount && is_aligned(to, kCount)) {
    Moved all;
    memcpy(&all, codes, kCount);
    *reinterpret_cast<Moved*>(to) = all;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i++) {
      if (col + i < cols) to[i] = codes[i];
    }
  }
  if (col % kScaleBlock == 0) {
    q.scales[scale_index(ScaleLayout::rows_1x128, rows, cols, row, col)] = scale;
  }
}

// For a chunk of each thread of a ChunkGrid, all of which call this: 16 neighbours have a tile.
__device__ inline void quantize_chunk(const Fp8Rows& q, int64_t rows, int64_t cols, int64_t row,
                                      int64_t col, const Eight& x) {
  const float max = lanes_max(magnitude(x), kScaleBlock / kChunk);
  put_fp8(q, rows, cols, row, col, x, tile_scale(q, max));
}

}  // namespace strait::cuda
