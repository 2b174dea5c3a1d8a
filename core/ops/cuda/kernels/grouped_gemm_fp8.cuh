// core/ops/cuda/kernels/grouped_gemm_fp8.cuh: the kernels of core/ops/cuda/grouped_gemm_fp8.h.
// Include ptx.cuh before this file, or what stands for it on a CPU (tests/gpu/ptx_cpu.h).
//
// One persistent block per multiprocessor makes 128 x kTileN tiles of the result. One warp loads
// (TMA) through a ring of stages in shared memory, two groups of four warps multiply (wgmma), 64
// rows each, and take turns with the tensor cores: while one scales its product of 128 and adds it
// up in FP32, the other's product runs.
//
// Tiles of 128 columns are the fastest of gemm_kernel on an H200 and of 192 of wgrad_kernel; pairs
// of blocks that share loads were slower (tests/gpu/README.md).
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>

#include "core/ops/cuda/tile_order.h"
#include "core/ops/math/scales.h"

namespace strait::cuda::grouped_fp8 {

constexpr int kTileM = 128, kTileK = 128;
constexpr int kGemmTileN = 128, kWgradTileN = 192;
static_assert(kGemmTileN == kScaleBlock);  // one scale of w for a tile and block of K
constexpr int kGroup = 128;                // threads of a warpgroup
constexpr int kMathWarps = 8;              // two warpgroups
constexpr int kThreads = 3 * kGroup;       // and one that loads
constexpr int kGroupRows = kTileM / 2;     // rows of a tile that one warpgroup multiplies
// 65,536 registers: 3 x 128 x 168 at the start, then 128 x (24 + 2 x 240).
constexpr int kLoadRegisters = 24, kMathRegisters = 240;
constexpr int kSharedLimit = 227 * 1024;

template <int kTileN>
constexpr int kSums = kGroupRows* kTileN / kGroup;  // of the tile, for one thread
constexpr int kBoxColumns = 64;                     // of a box of y: 128 bytes
constexpr int kAddRows = kGroupRows / 2;            // rows of dw that a warpgroup adds at a time
constexpr int kAddColumns = 32;                     // of a box of dw: 128 bytes

template <int kTileN>
struct Stage {
  uint8_t a[kTileM * kTileK];
  uint8_t b[kTileN * kTileK];
};

template <int kTileN>
constexpr int kStages = (kSharedLimit - kTileM * kTileN * 2 - 256) /
                        (kTileK * (kTileM + kTileN) + 4 * (kTileM + kTileN));

template <int kTileN>
struct __align__(1024) Shared {
  static constexpr int kNumStages = kStages<kTileN>;
  Stage<kTileN> stages[kNumStages];
  union {
    __nv_bfloat16 y[kTileM * kTileN];
    float dw[2 * kAddRows * kTileN];
  };
  float a_scales[kNumStages][kTileM], b_scales[kNumStages][kTileN];
  uint64_t full[kNumStages], empty[kNumStages];
};
static_assert(sizeof(Shared<kGemmTileN>) <= kSharedLimit &&
              sizeof(Shared<kWgradTileN>) <= kSharedLimit);

// Where a role stands in the ring of stages.
template <int kTileN>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;

  STRAIT_DEVICE void advance() {
    if (++stage == kStages<kTileN>) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Who a thread is.
struct Place {
  int group = __shfl_sync(~0u, threadIdx.x / kGroup, 0);
  int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
  int lane = threadIdx.x % 32;
  bool first_of_group = threadIdx.x % kGroup == 0;
  // Of the accumulator (ptx.cuh): the first of this thread's two rows inside the warpgroup's 64,
  // and first column.
  int row = warp % 4 * 16 + lane / 4;
  int column = lane % 4 * 2;
};

template <int kTileN>
STRAIT_DEVICE void start(Shared<kTileN>& shared) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages<kTileN>; i++) {
      ptx::mbarrier_init(&shared.full[i], 1);
      ptx::mbarrier_init(&shared.empty[i], kMathWarps);
    }
    ptx::mbarrier_fence_init();
  }
  __syncthreads();
}

template <int kTileN>
STRAIT_DEVICE void wait_empty(Shared<kTileN>& shared, const Ring<kTileN>& ring) {
  ptx::mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
}

// This warp is done with a stage.
template <int kTileN>
STRAIT_DEVICE void release(Shared<kTileN>& shared, const Ring<kTileN>& ring, int lane) {
  if (lane == 0) ptx::mbarrier_arrive(&shared.empty[ring.stage]);
}

// product = the warpgroup's 64 rows of the stage's A times its B, over 128 of K.
template <int kTileN>
STRAIT_DEVICE void multiply(const Stage<kTileN>& stage, int group,
                            float (&product)[kSums<kTileN>]) {
#pragma unroll
  for (int i = 0; i < kSums<kTileN>; i++) ptx::pin(product[i]);
  ptx::wgmma_fence();
  const uint64_t a = ptx::wgmma_operand(stage.a + group * kGroupRows * kTileK),
                 b = ptx::wgmma_operand(stage.b);
#pragma unroll
  for (int step = 0; step < kTileK / ptx::kWgmmaK; step++) {
    ptx::wgmma_e4m3(product, a + step * ptx::kWgmmaKStep, b + step * ptx::kWgmmaKStep, step > 0);
  }
  ptx::wgmma_commit();
#pragma unroll
  for (int i = 0; i < kSums<kTileN>; i++) ptx::pin(product[i]);
  ptx::wgmma_wait();
}

STRAIT_DEVICE uint32_t bits_of(__nv_bfloat162 pair) {
  uint32_t bits;
  memcpy(&bits, &pair, 4);
  return bits;
}

// Rounds the warpgroup's sums to BF16, into shared memory as swizzled boxes of kBoxColumns.
STRAIT_DEVICE void write_bf16(const float (&sums)[kSums<kGemmTileN>], const Place& me,
                              __nv_bfloat16* to) {
  constexpr int kChunks = kBoxColumns / 8;
  const int row = me.warp % 4 * 16 + me.lane % 16;  // the row whose address this lane gives
#pragma unroll
  for (int i = 0; i < kGemmTileN / 8; i++) {
    const __nv_bfloat162 upper = __floats2bfloat162_rn(sums[4 * i], sums[4 * i + 1]);
    const __nv_bfloat162 lower = __floats2bfloat162_rn(sums[4 * i + 2], sums[4 * i + 3]);
    const int box = i / kChunks, chunk = i % kChunks ^ row % 8;
    ptx::store_matrix_x2(to + (box * kGroupRows + row) * kBoxColumns + chunk * 8, bits_of(upper),
                         bits_of(lower));
  }
}

struct GemmSizes {
  int n;
  int blocks_n, blocks_k;  // of kGemmTileN and kTileK
  int scale_blocks,
      scale_stride;  // 128-row blocks of w, and floats from one's scales to the next's
};

inline GemmSizes gemm_sizes(int64_t n, int64_t k) {
  return {static_cast<int>(n), static_cast<int>(ceil_div(n, kGemmTileN)),
          static_cast<int>(ceil_div(k, kTileK)), static_cast<int>(ceil_div(n, kScaleBlock)),
          static_cast<int>(scale_stride(ScaleLayout::blocks_128x128, n, k))};
}

__global__ __launch_bounds__(kThreads, 1) void gemm_kernel(
    const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap x_scales,
    const __grid_constant__ CUtensorMap w, const __grid_constant__ CUtensorMap y,
    const float* __restrict__ w_scales, const int* __restrict__ block_expert,
    const int* __restrict__ num_blocks, GemmSizes sizes) {
  auto& shared = *reinterpret_cast<Shared<kGemmTileN>*>(ptx::dynamic_shared());
  const Place me;
  start(shared);

  const int blocks_m = *num_blocks;
  const int num_tiles = blocks_m * sizes.blocks_n, step = gridDim.x;
  Ring<kGemmTileN> ring;

  if (me.group == 2) {
    ptx::registers_down<kLoadRegisters>();
    if (me.warp == kMathWarps && ptx::elect_one()) {
      for (int tile = blockIdx.x; tile < num_tiles; tile += step) {
        const auto [m, n] = tile_at(tile, blocks_m, sizes.blocks_n);
        const int expert = block_expert[m];
        for (int k = 0; k < sizes.blocks_k; k++, ring.advance()) {
          uint64_t* full = &shared.full[ring.stage];
          wait_empty(shared, ring);
          ptx::mbarrier_arrive_expect(full, sizeof(Stage<kGemmTileN>) + sizeof(shared.a_scales[0]));
          ptx::tma_load(&x, full, shared.stages[ring.stage].a, k * kTileK, m * kTileM);
          ptx::tma_load(&x_scales, full, shared.a_scales[ring.stage], m * kTileM, k);
          ptx::tma_load(&w, full, shared.stages[ring.stage].b, k * kTileK,
                        expert * sizes.n + n * kGemmTileN);
        }
      }
    }
  } else {
    ptx::registers_up<kMathRegisters>();
    const int row = me.group * kGroupRows + me.row;
    for (int tile = blockIdx.x; tile < num_tiles; tile += step) {
      const auto [m, n] = tile_at(tile, blocks_m, sizes.blocks_n);
      const float* scales =
          w_scales + (block_expert[m] * sizes.scale_blocks + n) * sizes.scale_stride;
      float product[kSums<kGemmTileN>], sums[kSums<kGemmTileN>] = {};
      for (int k = 0; k < sizes.blocks_k; k++, ring.advance()) {
        const float b_scale = __ldg(scales + k);  // used after the product: here by then
        ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
        const float a_upper = shared.a_scales[ring.stage][row],
                    a_lower = shared.a_scales[ring.stage][row + 8];
        multiply(shared.stages[ring.stage], me.group, product);
        release(shared, ring, me.lane);
        const float upper = a_upper * b_scale, lower = a_lower * b_scale;
#pragma unroll
        for (int i = 0; i < kGemmTileN / 8; i++) {
          sums[4 * i] += upper * product[4 * i];
          sums[4 * i + 1] += upper * product[4 * i + 1];
          sums[4 * i + 2] += lower * product[4 * i + 2];
          sums[4 * i + 3] += lower * product[4 * i + 3];
        }
      }
      if (me.first_of_group) ptx::tma_wait_read();  // the last tile has left shared memory
      ptx::named_barrier(1 + me.group, kGroup);
      __nv_bfloat16* out = shared.y + me.group * kGroupRows * kGemmTileN;
      write_bf16(sums, me, out);
      ptx::fence_async_proxy();
      ptx::named_barrier(1 + me.group, kGroup);
      if (me.first_of_group) {
        for (int column = 0; column < kGemmTileN; column += kBoxColumns) {
          ptx::tma_store(&y, out + kGroupRows * column, n * kGemmTileN + column,
                         m * kTileM + me.group * kGroupRows);
        }
        ptx::tma_commit();
      }
    }
    if (me.first_of_group) ptx::tma_wait();
  }
}

struct WgradSizes {
  int m, n, experts;
};

// Half of the warpgroup's sums, rows half * kAddRows .. of its 64, into shared memory as swizzled
// boxes of kAddColumns.
STRAIT_DEVICE void write_half(const float (&sums)[kSums<kWgradTileN>], const Place& me, int half,
                              float* to) {
  if (me.warp % 4 / 2 != half) return;
  const int row = me.row % kAddRows;  // and row + 8, which the swizzle moves the same
#pragma unroll
  for (int i = 0; i < kWgradTileN / 8; i++) {
    const int box = i / 4, chunk = (i % 4 * 2 + me.column / 4) ^ row % 8;
    float* at = to + (box * kAddRows + row) * kAddColumns + chunk * 4 + me.column % 4;
    *reinterpret_cast<float2*>(at) = {sums[4 * i], sums[4 * i + 1]};
    *reinterpret_cast<float2*>(at + 8 * kAddColumns) = {sums[4 * i + 2], sums[4 * i + 3]};
  }
}

__global__ __launch_bounds__(kThreads, 1) void wgrad_kernel(
    const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap dy_scales,
    const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap x_scales,
    const __grid_constant__ CUtensorMap dw, const int* __restrict__ first_block,
    const int* __restrict__ end_block, WgradSizes sizes) {
  auto& shared = *reinterpret_cast<Shared<kWgradTileN>*>(ptx::dynamic_shared());
  const Place me;
  start(shared);

  const int blocks_m = (sizes.m + kTileM - 1) / kTileM,
            blocks_n = (sizes.n + kWgradTileN - 1) / kWgradTileN;
  const int per_expert = blocks_m * blocks_n;
  const int num_tiles = per_expert * sizes.experts, step = gridDim.x;
  Ring<kWgradTileN> ring;

  if (me.group == 2) {
    ptx::registers_down<kLoadRegisters>();
    if (me.warp == kMathWarps && ptx::elect_one()) {
      for (int tile = blockIdx.x; tile < num_tiles; tile += step) {
        const int expert = tile / per_expert;
        const auto [m, n] = tile_at(tile % per_expert, blocks_m, blocks_n);
        for (int k = first_block[expert]; k < end_block[expert]; k++, ring.advance()) {
          uint64_t* full = &shared.full[ring.stage];
          wait_empty(shared, ring);
          ptx::mbarrier_arrive_expect(
              full,
              sizeof(Stage<kWgradTileN>) + sizeof(shared.a_scales[0]) + sizeof(shared.b_scales[0]));
          ptx::tma_load(&dy, full, shared.stages[ring.stage].a, k * kTileK, m * kTileM);
          ptx::tma_load(&dy_scales, full, shared.a_scales[ring.stage], m * kTileM, k);
          ptx::tma_load(&x, full, shared.stages[ring.stage].b, k * kTileK, n * kWgradTileN);
          ptx::tma_load(&x_scales, full, shared.b_scales[ring.stage], n * kWgradTileN, k);
        }
      }
    }
  } else {
    ptx::registers_up<kMathRegisters>();
    const int row = me.group * kGroupRows + me.row;
    for (int tile = blockIdx.x; tile < num_tiles; tile += step) {
      const int expert = tile / per_expert, k_end = end_block[expert];
      const auto [m, n] = tile_at(tile % per_expert, blocks_m, blocks_n);
      int k = first_block[expert];
      if (k == k_end) continue;
      float product[kSums<kWgradTileN>], sums[kSums<kWgradTileN>] = {};
      for (; k < k_end; k++, ring.advance()) {
        ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
        const float upper = shared.a_scales[ring.stage][row],
                    lower = shared.a_scales[ring.stage][row + 8];
        const float* b_scales = &shared.b_scales[ring.stage][me.column];
        multiply(shared.stages[ring.stage], me.group, product);
#pragma unroll
        for (int i = 0; i < kWgradTileN / 8; i++) {
          const auto b_scale = *reinterpret_cast<const float2*>(b_scales + i * 8);
          sums[4 * i] += upper * b_scale.x * product[4 * i];
          sums[4 * i + 1] += upper * b_scale.y * product[4 * i + 1];
          sums[4 * i + 2] += lower * b_scale.x * product[4 * i + 2];
          sums[4 * i + 3] += lower * b_scale.y * product[4 * i + 3];
        }
        __syncwarp();  // all lanes have read their scales
        release(shared, ring, me.lane);
      }
      float* out = shared.dw + me.group * kAddRows * kWgradTileN;
      for (int half = 0; half < 2; half++) {
        if (me.first_of_group) ptx::tma_wait_read();
        ptx::named_barrier(1 + me.group, kGroup);
        write_half(sums, me, half, out);
        ptx::fence_async_proxy();
        ptx::named_barrier(1 + me.group, kGroup);
        if (me.first_of_group) {
          // Where m is no multiple of 128, the rows past it are zeros, added to the next expert's:
          // they change nothing.
          const int dw_row =
              expert * sizes.m + m * kTileM + me.group * kGroupRows + half * kAddRows;
          for (int column = 0; column < kWgradTileN; column += kAddColumns) {
            ptx::tma_add(&dw, out + kAddRows * column, n * kWgradTileN + column, dw_row);
          }
          ptx::tma_commit();
        }
      }
    }
    if (me.first_of_group) ptx::tma_wait();
  }
}

}  // namespace strait::cuda::grouped_fp8
