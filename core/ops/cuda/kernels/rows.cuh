// core/ops/cuda/kernels/rows.cuh: what the plain kernels share: elements of rows, and sums over a
// row by one warp with the bits of the CPU's.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/ops/cuda/kernels/launch.cuh"
#include "core/ops/cuda/rows.h"
#include "core/ops/math/bf16.h"
#include "core/ops/math/fp8.h"
#include "core/ops/math/scalar.h"

namespace strait::cuda {

__device__ inline int lane_of_warp() { return static_cast<int>(threadIdx.x) % kWarpLanes; }
__device__ inline int warp_of_block() { return static_cast<int>(threadIdx.x) / kWarpLanes; }
// The row of the thread's warp, in kernels with a warp for each row.
__device__ inline int64_t row_of_warp() {
  return static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + warp_of_block();
}

// The row and first column of the thread's chunk, in kernels that are launched as a ChunkGrid.
struct ChunkPlace {
  int64_t row, col;
  __device__ explicit ChunkPlace(unsigned blocks_per_row)
      : row(blockIdx.x / blocks_per_row),
        col((static_cast<int64_t>(blockIdx.x % blocks_per_row) * blockDim.x + threadIdx.x) *
            kChunk) {}
};

// std::min takes references, which constants of the host have none of on a device.
__device__ inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
__device__ inline bool is_aligned(const void* p, int bytes) {
  return reinterpret_cast<uintptr_t>(p) % static_cast<unsigned>(bytes) == 0;
}
__device__ inline void* element(const Rows& rows, int64_t row, int64_t col) {
  return static_cast<char*>(rows.data) + (row * rows.stride + col) * (rows.bf16 ? 2 : 4);
}

// kCount elements of a row, of which `count` are inside of it: the others are 0, and not stored.
template <int kCount>
struct Part {
  float x[kCount];

  __device__ static Part load(const Rows& rows, int64_t row, int64_t col, int64_t count) {
    Part part;
    const void* from = element(rows, row, col);
    if (rows.bf16) {
      part.load_bf16(static_cast<const uint16_t*>(from), count);
    } else {
      part.load_f32(static_cast<const float*>(from), count);
    }
    return part;
  }
  __device__ void store(const Rows& rows, int64_t row, int64_t col, int64_t count) const {
    void* to = element(rows, row, col);
    if (rows.bf16) {
      store_bf16(static_cast<uint16_t*>(to), count);
    } else {
      store_f32(static_cast<float*>(to), count);
    }
  }

  // Of 4 or 2 elements' bytes, as many as one instruction moves.
  static constexpr int kMoved = kCount % 4 == 0 ? 4 : 2;
  using Move32 = std::conditional_t<kMoved == 4, uint4, uint2>;
  using Move16 =
      std::conditional_t<kCount == 8, uint4, std::conditional_t<kCount == 4, uint2, unsigned>>;

  __device__ void load_f32(const float* from, int64_t count) {
    if (count >= kCount && is_aligned(from, sizeof(Move32))) {
#pragma unroll
      for (int i = 0; i < kCount; i += kMoved) {
        const Move32 bits = *reinterpret_cast<const Move32*>(from + i);
        memcpy(x + i, &bits, sizeof bits);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kCount; i++) x[i] = i < count ? from[i] : 0.0f;
    }
  }
  __device__ void store_f32(float* to, int64_t count) const {
    if (count >= kCount && is_aligned(to, sizeof(Move32))) {
#pragma unroll
      for (int i = 0; i < kCount; i += kMoved) {
        Move32 bits;
        memcpy(&bits, x + i, sizeof bits);
        *reinterpret_cast<Move32*>(to + i) = bits;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        if (i < count) to[i] = x[i];
      }
    }
  }
  __device__ void load_bf16(const uint16_t* from, int64_t count) {
    uint16_t bits[kCount];
    if (count >= kCount && is_aligned(from, sizeof(Move16))) {
      const Move16 all = *reinterpret_cast<const Move16*>(from);
      memcpy(bits, &all, sizeof bits);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; i++) bits[i] = i < count ? from[i] : uint16_t{0};
    }
#pragma unroll
    for (int i = 0; i < kCount; i++) x[i] = bf16_bits_to_float(bits[i]);
  }
  __device__ void store_bf16(uint16_t* to, int64_t count) const {
    uint16_t bits[kCount];
#pragma unroll
    for (int i = 0; i < kCount; i++) bits[i] = bf16_bits(x[i]);
    if (count >= kCount && is_aligned(to, sizeof(Move16))) {
      Move16 all;
      memcpy(&all, bits, sizeof bits);
      *reinterpret_cast<Move16*>(to) = all;
    } else {
#pragma unroll
      for (int i = 0; i < kCount; i++) {
        if (i < count) to[i] = bits[i];
      }
    }
  }
};
using Eight = Part<kChunk>;
using Pair = Part<2>;

// As stored in rows of that type.
template <int kCount>
__device__ void round_as(Part<kCount>& part, bool bf16) {
#pragma unroll
  for (int i = 0; i < kCount; i++) {
    if (bf16) part.x[i] = bf16_bits_to_float(bf16_bits(part.x[i]));
  }
}

// Copies kChunk elements; bits as they are where the types are the same.
__device__ inline void copy_chunk(const Rows& from, int64_t from_row, const Rows& to,
                                  int64_t to_row, int64_t col, int64_t count) {
  if (from.bf16 && to.bf16 && count < kChunk) {  // a conversion would change signalling NaN
    const auto* source = static_cast<const uint16_t*>(element(from, from_row, col));
    auto* target = static_cast<uint16_t*>(element(to, to_row, col));
    for (int64_t i = 0; i < count; i++) target[i] = source[i];
  } else if (from.bf16 && to.bf16) {
    const auto* source = static_cast<const uint16_t*>(element(from, from_row, col));
    auto* target = static_cast<uint16_t*>(element(to, to_row, col));
    if (is_aligned(source, 16) && is_aligned(target, 16)) {
      *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(source);
    } else {
#pragma unroll
      for (int i = 0; i < kChunk; i++) target[i] = source[i];
    }
  } else {
    Eight::load(from, from_row, col, count).store(to, to_row, col, count);
  }
}

// One warp goes over the columns of a row as the CPU's sum_lanes does (core/ops/cpu/kernels/
// vec.inc): 64 lanes, of which each thread has two neighbours, in four accumulators of 16; what
// is past the last 64 columns goes to the first accumulator, and past the last 16 to the second.
// visit(col, count, lane_pair) is called for columns col and, if count is 2, col + 1.
template <class Visit>
__device__ void visit_pairs(int64_t cols, Visit visit) {
  const int lane = lane_of_warp();
  int64_t col = 0;
#pragma unroll 4
  for (; col + 64 <= cols; col += 64) visit(col + 2 * lane, 2);
  for (; col + 16 <= cols; col += 16) {
    if (lane < 8) visit(col + 2 * lane, 2);
  }
  const int64_t last = col + 2 * (lane - 8);
  if (lane >= 8 && lane < 16 && last < cols) {
    visit(last, last + 1 < cols ? 2 : 1);
  }
}

// The sum over the warp's lanes in the CPU's order: accumulators (0 + 1) + (2 + 3), then lanes
// i + 8, + 4, + 2, + 1. All threads get it.
template <class T>
__device__ T add_lanes(T first, T second) {
#pragma unroll
  for (int step = 0; step < 5; step++) {
    const int distance = step == 0 ? 8 : step == 1 ? 16 : 16 >> step;
    first += __shfl_xor_sync(~0u, first, distance);
    second += __shfl_xor_sync(~0u, second, distance);
  }
  return first + second;
}

}  // namespace strait::cuda
