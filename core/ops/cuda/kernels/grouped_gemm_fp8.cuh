// core/ops/cuda/kernels/grouped_gemm_fp8.cuh: the kernels of core/ops/cuda/grouped_gemm_fp8.h.
// Include ptx.cuh before this file, or what stands for it on a CPU (tests/gpu/ptx_cpu.h).
//
// One persistent block per multiprocessor makes 128 x 128 tiles of the result. One warp loads (TMA)
// through a ring of stages in shared memory, two groups of four warps multiply (wgmma), 64 rows
// each, and take turns with the tensor cores: while one scales its product of 128 and adds it up in
// FP32, the other's product runs.
//
// A pair of blocks (a cluster) works on neighbouring tiles in n: each loads half of their common
// rows of A for both. At 128 x 128 a tile reads 1 byte per 128 operations; 1,300 TFLOP/s would ask
// 10 TB/s of L2, which gives about 5.5.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>

#include "core/ops/cuda/tile_order.h"

namespace strait::cuda::grouped_fp8 {

constexpr int kTileM = 128, kTileN = 128, kTileK = 128;
constexpr int kStages = 5;
constexpr int kGroup = 128;             // threads of a warpgroup
constexpr int kMathWarps = 8;           // two warpgroups
constexpr int kThreads = 3 * kGroup;    // and one that loads
constexpr int kGroupRows = kTileM / 2;  // rows of a tile that one warpgroup multiplies
constexpr int kSums = kGroupRows * kTileN / kGroup;
// 65,536 registers: 3 x 128 x 168 at the start, then 128 x (40 + 2 x 232).
constexpr int kLoadRegisters = 40, kMathRegisters = 232;
constexpr int kHalfColumns = 64;  // of BF16: the 128 bytes of a swizzled row

struct Stage {
  uint8_t a[kTileM * kTileK];
  uint8_t b[kTileN * kTileK];
};

struct __align__(1024) Shared {
  Stage stages[kStages];
  union {
    __nv_bfloat16 y[kTileM * kTileN];
    float dw[kTileM / 2 * kTileN];
  };
  float a_scales[kStages][kTileM], b_scales[kStages][kTileN];
  uint64_t full[kStages], empty[kStages];
};
constexpr int kSharedLimit = 227 * 1024;
static_assert(sizeof(Shared) <= kSharedLimit);

// Where a role stands in the ring of stages.
struct Ring {
  int stage = 0;
  uint32_t parity = 0;

  STRAIT_DEVICE void advance() {
    if (++stage == kStages) {
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

template <int kSharing>
STRAIT_DEVICE void start(Shared& shared) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; i++) {
      ptx::mbarrier_init(&shared.full[i], 1);
      ptx::mbarrier_init(&shared.empty[i],
                         kMathWarps * kSharing);  // one a warp that reads what this block may load
    }
    ptx::mbarrier_fence_init();
  }
  if constexpr (kSharing > 1) {
    ptx::cluster_sync();
  } else {
    __syncthreads();
  }
}

// A block of a pair may not leave while the other still writes into its memory or arrives at its
// barriers.
template <int kSharing>
STRAIT_DEVICE void finish() {
  if constexpr (kSharing > 1) ptx::cluster_sync();
}

// The rows of A for this block's stage: alone, or this block's half for both.
template <int kSharing>
STRAIT_DEVICE void load_a(Shared& shared, const Ring& ring, const CUtensorMap* map, int k, int row,
                          int rank) {
  if constexpr (kSharing == 1) {
    ptx::tma_load(map, &shared.full[ring.stage], shared.stages[ring.stage].a, k, row);
  } else {
    constexpr int kRows = kTileM / kSharing;
    ptx::tma_load_multicast(map, &shared.full[ring.stage],
                            shared.stages[ring.stage].a + rank * kRows * kTileK, k,
                            row + rank * kRows, (1 << kSharing) - 1);
  }
}

template <int kSharing>
STRAIT_DEVICE void wait_empty(Shared& shared, const Ring& ring) {
  ptx::mbarrier_wait<(kSharing > 1)>(&shared.empty[ring.stage], ring.parity ^ 1);
}

// This warp is done with a stage; all blocks that may load into it learn so.
template <int kSharing>
STRAIT_DEVICE void release(Shared& shared, const Ring& ring, int lane) {
  if constexpr (kSharing == 1) {
    if (lane == 0) ptx::mbarrier_arrive(&shared.empty[ring.stage]);
  } else {
    if (lane < kSharing) ptx::mbarrier_arrive_cluster(&shared.empty[ring.stage], lane);
  }
}

// product = the warpgroup's 64 rows of the stage's A times its B, over 128 of K.
STRAIT_DEVICE void multiply(const Stage& stage, int group, float (&product)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; i++) ptx::pin(product[i]);
  ptx::wgmma_fence();
  const uint64_t a = ptx::wgmma_operand(stage.a + group * kGroupRows * kTileK),
                 b = ptx::wgmma_operand(stage.b);
#pragma unroll
  for (int step = 0; step < kTileK / ptx::kWgmmaK; step++) {
    ptx::wgmma_64x128x32(product, a + step * ptx::kWgmmaKStep, b + step * ptx::kWgmmaKStep,
                         step > 0);
  }
  ptx::wgmma_commit();
#pragma unroll
  for (int i = 0; i < kSums; i++) ptx::pin(product[i]);
  ptx::wgmma_wait();
}

STRAIT_DEVICE uint32_t bits_of(__nv_bfloat162 pair) {
  uint32_t bits;
  memcpy(&bits, &pair, 4);
  return bits;
}

// Rounds the warpgroup's 64 x 128 sums to BF16, into shared memory as two swizzled boxes of 64
// columns.
STRAIT_DEVICE void write_bf16(const float (&sums)[kSums], const Place& me, __nv_bfloat16* to) {
  const int row = me.warp % 4 * 16 + me.lane % 16;  // the row whose address this lane gives
#pragma unroll
  for (int i = 0; i < kTileN / 8; i++) {
    const __nv_bfloat162 upper = __floats2bfloat162_rn(sums[4 * i], sums[4 * i + 1]);
    const __nv_bfloat162 lower = __floats2bfloat162_rn(sums[4 * i + 2], sums[4 * i + 3]);
    const int half = i / 8, chunk = i % 8 ^ row % 8;
    ptx::store_matrix_x2(to + half * kGroupRows * kHalfColumns + row * kHalfColumns + chunk * 8,
                         bits_of(upper), bits_of(lower));
  }
}

struct GemmSizes {
  int n, k, scale_stride;  // scale_stride: from one 128-row block of w_scales to the next
};

template <int kSharing>
__global__ __launch_bounds__(kThreads, 1) void gemm_kernel(
    const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap x_scales,
    const __grid_constant__ CUtensorMap w, const __grid_constant__ CUtensorMap y,
    const float* __restrict__ w_scales, const int* __restrict__ block_expert,
    const int* __restrict__ num_blocks, GemmSizes sizes) {
  Shared& shared = *reinterpret_cast<Shared*>(ptx::dynamic_shared());
  const Place me;
  start<kSharing>(shared);

  const int rank = kSharing > 1 ? ptx::cluster_rank() : 0;
  const int blocks_m = *num_blocks, blocks_n = (sizes.n + kTileN - 1) / kTileN;
  const int blocks_k = (sizes.k + kTileK - 1) / kTileK,
            pairs_n = (blocks_n + kSharing - 1) / kSharing;
  const int num_tiles = blocks_m * pairs_n, step = gridDim.x / kSharing;
  Ring ring;

  if (me.group == 2) {
    ptx::registers_down<kLoadRegisters>();
    if (me.warp == kMathWarps && ptx::elect_one()) {
      for (int tile = blockIdx.x / kSharing; tile < num_tiles; tile += step) {
        const auto [m, pair] = tile_at(tile, blocks_m, pairs_n);
        const int n = pair * kSharing + rank, expert = block_expert[m];
        for (int k = 0; k < blocks_k; k++, ring.advance()) {
          uint64_t* full = &shared.full[ring.stage];
          wait_empty<kSharing>(shared, ring);
          ptx::mbarrier_arrive_expect(full, sizeof(Stage) + sizeof(shared.a_scales[0]));
          load_a<kSharing>(shared, ring, &x, k * kTileK, m * kTileM, rank);
          ptx::tma_load(&x_scales, full, shared.a_scales[ring.stage], m * kTileM, k);
          ptx::tma_load(&w, full, shared.stages[ring.stage].b, k * kTileK,
                        expert * sizes.n + n * kTileN);
        }
      }
    }
  } else {
    ptx::registers_up<kMathRegisters>();
    const int row = me.group * kGroupRows + me.row;
    for (int tile = blockIdx.x / kSharing; tile < num_tiles; tile += step) {
      const auto [m, pair] = tile_at(tile, blocks_m, pairs_n);
      // The second of a pair may stand past an odd number of tiles: it multiplies, and its stores
      // fall outside.
      const int n = pair * kSharing + rank, n_scaled = n < blocks_n ? n : blocks_n - 1;
      const float* b_scales =
          w_scales +
          (static_cast<int64_t>(block_expert[m]) * blocks_n + n_scaled) * sizes.scale_stride;
      float product[kSums], sums[kSums] = {};
      float next_scale = __ldg(b_scales);
      for (int k = 0; k < blocks_k; k++, ring.advance()) {
        const float b_scale = next_scale;
        if (k + 1 < blocks_k) next_scale = __ldg(b_scales + k + 1);
        ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
        const float upper = shared.a_scales[ring.stage][row] * b_scale;
        const float lower = shared.a_scales[ring.stage][row + 8] * b_scale;
        multiply(shared.stages[ring.stage], me.group, product);
        release<kSharing>(shared, ring, me.lane);
#pragma unroll
        for (int i = 0; i < kSums; i += 4) {
          sums[i] += upper * product[i];
          sums[i + 1] += upper * product[i + 1];
          sums[i + 2] += lower * product[i + 2];
          sums[i + 3] += lower * product[i + 3];
        }
      }
      if (me.first_of_group) ptx::tma_wait_read();  // the last tile has left shared memory
      ptx::named_barrier(1 + me.group, kGroup);
      __nv_bfloat16* out = shared.y + me.group * kGroupRows * kTileN;
      write_bf16(sums, me, out);
      ptx::fence_async_proxy();
      ptx::named_barrier(1 + me.group, kGroup);
      if (me.first_of_group) {
        const int y_row = m * kTileM + me.group * kGroupRows;
        ptx::tma_store(&y, out, n * kTileN, y_row);
        ptx::tma_store(&y, out + kGroupRows * kHalfColumns, n * kTileN + kHalfColumns, y_row);
        ptx::tma_commit();
      }
    }
    if (me.first_of_group) ptx::tma_wait();
  }
  finish<kSharing>();
}

struct WgradSizes {
  int m, n, experts;
};

// Rows of dw that a warpgroup adds at a time: its quarter of the 32 KiB, twice a tile.
constexpr int kAddRows = kGroupRows / 2;

template <int kSharing>
__global__ __launch_bounds__(kThreads, 1) void wgrad_kernel(
    const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap dy_scales,
    const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap x_scales,
    const __grid_constant__ CUtensorMap dw, const int* __restrict__ first_block,
    const int* __restrict__ end_block, WgradSizes sizes) {
  Shared& shared = *reinterpret_cast<Shared*>(ptx::dynamic_shared());
  const Place me;
  start<kSharing>(shared);

  const int rank = kSharing > 1 ? ptx::cluster_rank() : 0;
  const int blocks_m = (sizes.m + kTileM - 1) / kTileM, blocks_n = (sizes.n + kTileN - 1) / kTileN;
  const int pairs_n = (blocks_n + kSharing - 1) / kSharing, per_expert = blocks_m * pairs_n;
  const int num_tiles = per_expert * sizes.experts, step = gridDim.x / kSharing;
  Ring ring;

  if (me.group == 2) {
    ptx::registers_down<kLoadRegisters>();
    if (me.warp == kMathWarps && ptx::elect_one()) {
      for (int tile = blockIdx.x / kSharing; tile < num_tiles; tile += step) {
        const int expert = tile / per_expert;
        const auto [m, pair] = tile_at(tile % per_expert, blocks_m, pairs_n);
        const int n = pair * kSharing + rank;
        for (int k = first_block[expert]; k < end_block[expert]; k++, ring.advance()) {
          uint64_t* full = &shared.full[ring.stage];
          wait_empty<kSharing>(shared, ring);
          ptx::mbarrier_arrive_expect(
              full, sizeof(Stage) + sizeof(shared.a_scales[0]) + sizeof(shared.b_scales[0]));
          load_a<kSharing>(shared, ring, &dy, k * kTileK, m * kTileM, rank);
          ptx::tma_load(&dy_scales, full, shared.a_scales[ring.stage], m * kTileM, k);
          ptx::tma_load(&x, full, shared.stages[ring.stage].b, k * kTileK, n * kTileN);
          ptx::tma_load(&x_scales, full, shared.b_scales[ring.stage], n * kTileN, k);
        }
      }
    }
  } else {
    ptx::registers_up<kMathRegisters>();
    const int row = me.group * kGroupRows + me.row;
    for (int tile = blockIdx.x / kSharing; tile < num_tiles; tile += step) {
      const int expert = tile / per_expert, k_end = end_block[expert];
      const auto [m, pair] = tile_at(tile % per_expert, blocks_m, pairs_n);
      const int n = pair * kSharing + rank;
      int k = first_block[expert];
      if (k == k_end) continue;
      float product[kSums], sums[kSums] = {};
      for (; k < k_end; k++, ring.advance()) {
        ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
        const float upper = shared.a_scales[ring.stage][row],
                    lower = shared.a_scales[ring.stage][row + 8];
        float2
            b_scales[kTileN / 8];  // read before release(): the stage may be overwritten after it
#pragma unroll
        for (int i = 0; i < kTileN / 8; i++) {
          b_scales[i] =
              *reinterpret_cast<const float2*>(&shared.b_scales[ring.stage][i * 8 + me.column]);
        }
        multiply(shared.stages[ring.stage], me.group, product);
        release<kSharing>(shared, ring, me.lane);
#pragma unroll
        for (int i = 0; i < kTileN / 8; i++) {
          sums[4 * i] += upper * b_scales[i].x * product[4 * i];
          sums[4 * i + 1] += upper * b_scales[i].y * product[4 * i + 1];
          sums[4 * i + 2] += lower * b_scales[i].x * product[4 * i + 2];
          sums[4 * i + 3] += lower * b_scales[i].y * product[4 * i + 3];
        }
      }
      float* out = shared.dw + me.group * kAddRows * kTileN;
      for (int half = 0; half < 2; half++) {
        if (me.first_of_group) ptx::tma_wait_read();
        ptx::named_barrier(1 + me.group, kGroup);
        if (me.warp % 4 / 2 == half) {
          float* at = out + (me.row % kAddRows) * kTileN + me.column;
#pragma unroll
          for (int i = 0; i < kTileN / 8; i++) {
            *reinterpret_cast<float2*>(at + i * 8) = {sums[4 * i], sums[4 * i + 1]};
            *reinterpret_cast<float2*>(at + 8 * kTileN + i * 8) = {sums[4 * i + 2],
                                                                   sums[4 * i + 3]};
          }
        }
        ptx::fence_async_proxy();
        ptx::named_barrier(1 + me.group, kGroup);
        if (me.first_of_group) {
          // Where m is no multiple of 128, the rows past it are zeros, added to the next expert's:
          // they change nothing.
          ptx::tma_add(&dw, out, n * kTileN,
                       expert * sizes.m + m * kTileM + me.group * kGroupRows + half * kAddRows);
          ptx::tma_commit();
        }
      }
    }
    if (me.first_of_group) ptx::tma_wait();
  }
  finish<kSharing>();
}

}  // namespace strait::cuda::grouped_fp8
