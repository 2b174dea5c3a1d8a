// core/ops/cuda/kernels/grouped_gemm_fp8.cuh: the kernels of core/ops/cuda/grouped_gemm_fp8.h.
// Include ptx.cuh before this file, or what stands for it on a CPU (tests/gpu/ptx_cpu.h).
//
// One persistent block per multiprocessor makes 128 x kTileN tiles of the result. One warp loads
// (TMA) through a ring of stages in shared memory, two groups of four warps multiply (wgmma), 64
// rows each, and take turns with the tensor cores: while one scales its product of 128 and adds it
// up in FP32, the other's product runs.
//
// A pair of blocks (a cluster) works on neighbouring tiles in n: each loads half of their common
// rows of A for both. Operations for a byte out of L2: 128 x 128 alone 128, in pairs 171; 128 x 160
// 142 and 183; 128 x 192 154 and 192. 1,300 TFLOP/s at 128 would ask 10 TB/s of L2.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>

#include "core/ops/cuda/scales.h"
#include "core/ops/cuda/tile_order.h"

namespace strait::cuda::grouped_fp8 {

constexpr int kTileM = 128, kTileK = 128;
constexpr int kGroup = 128;             // threads of a warpgroup
constexpr int kMathWarps = 8;           // two warpgroups
constexpr int kThreads = 3 * kGroup;    // and one that loads
constexpr int kGroupRows = kTileM / 2;  // rows of a tile that one warpgroup multiplies
// 65,536 registers: 3 x 128 x 168 at the start, then 128 x (24 + 2 x 240).
constexpr int kLoadRegisters = 24, kMathRegisters = 240;
constexpr int kSharedLimit = 227 * 1024;

template <int kTileN>
constexpr int kSums = kGroupRows* kTileN / kGroup;  // of the tile, for one thread
// Columns of a box of y: a row of it is swizzled over 128 bytes, or 64 where 128 do not divide.
template <int kTileN>
constexpr int kBoxColumns = kTileN % 64 == 0 ? 64 : 32;
constexpr int kAddRows = kGroupRows / 2;  // rows of dw that a warpgroup adds at a time
constexpr int kAddColumns = 32;           // of a box of dw: 128 bytes

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
static_assert(sizeof(Shared<128>) <= kSharedLimit && sizeof(Shared<160>) <= kSharedLimit &&
              sizeof(Shared<192>) <= kSharedLimit);

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

template <int kSharing, int kTileN>
STRAIT_DEVICE void start(Shared<kTileN>& shared) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages<kTileN>; i++) {
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
template <int kSharing, int kTileN>
STRAIT_DEVICE void load_a(Shared<kTileN>& shared, const Ring<kTileN>& ring, const CUtensorMap* map,
                          int k, int row, int rank) {
  if constexpr (kSharing == 1) {
    ptx::tma_load(map, &shared.full[ring.stage], shared.stages[ring.stage].a, k, row);
  } else {
    constexpr int kRows = kTileM / kSharing;
    ptx::tma_load_multicast(map, &shared.full[ring.stage],
                            shared.stages[ring.stage].a + rank * kRows * kTileK, k,
                            row + rank * kRows, (1 << kSharing) - 1);
  }
}

template <int kSharing, int kTileN>
STRAIT_DEVICE void wait_empty(Shared<kTileN>& shared, const Ring<kTileN>& ring) {
  ptx::mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
}

// This warp is done with a stage; all blocks that may load into it learn so.
template <int kSharing, int kTileN>
STRAIT_DEVICE void release(Shared<kTileN>& shared, const Ring<kTileN>& ring, int lane) {
  if constexpr (kSharing == 1) {
    if (lane == 0) ptx::mbarrier_arrive(&shared.empty[ring.stage]);
  } else {
    if (lane < kSharing) ptx::mbarrier_arrive_cluster(&shared.empty[ring.stage], lane);
  }
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
template <int kTileN>
STRAIT_DEVICE void write_bf16(const float (&sums)[kSums<kTileN>], const Place& me,
                              __nv_bfloat16* to) {
  constexpr int kColumns = kBoxColumns<kTileN>, kChunks = kColumns / 8;
  const int row = me.warp % 4 * 16 + me.lane % 16;  // the row whose address this lane gives
  const int swizzle = kColumns == 64 ? row % 8 : row / 2 % 4;
#pragma unroll
  for (int i = 0; i < kTileN / 8; i++) {
    const __nv_bfloat162 upper = __floats2bfloat162_rn(sums[4 * i], sums[4 * i + 1]);
    const __nv_bfloat162 lower = __floats2bfloat162_rn(sums[4 * i + 2], sums[4 * i + 3]);
    const int box = i / kChunks, chunk = i % kChunks ^ swizzle;
    ptx::store_matrix_x2(to + (box * kGroupRows + row) * kColumns + chunk * 8, bits_of(upper),
                         bits_of(lower));
  }
}

struct GemmSizes {
  int n;
  int pairs_n, blocks_k;  // tiles side by side in one cluster count once; blocks of kTileK
  int scale_blocks,
      scale_stride;  // 128-row blocks of w, and floats from one's scales to the next's
  int strip_rows;
};

template <int kSharing, int kTileN>
GemmSizes gemm_sizes(int64_t n, int64_t k, int strip_rows) {
  return {static_cast<int>(n),
          static_cast<int>(ceil_div(n, kTileN * kSharing)),
          static_cast<int>(ceil_div(k, kTileK)),
          static_cast<int>(ceil_div(n, kScaleBlock)),
          static_cast<int>(scale_stride(ScaleLayout::blocks_128x128, n, k)),
          strip_rows};
}

template <int kSharing, int kTileN>
__global__ __launch_bounds__(kThreads, 1) void gemm_kernel(
    const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap x_scales,
    const __grid_constant__ CUtensorMap w, const __grid_constant__ CUtensorMap y,
    const float* __restrict__ w_scales, const int* __restrict__ block_expert,
    const int* __restrict__ num_blocks, GemmSizes sizes) {
  auto& shared = *reinterpret_cast<Shared<kTileN>*>(ptx::dynamic_shared());
  const Place me;
  start<kSharing>(shared);

  const int rank = kSharing > 1 ? ptx::cluster_rank() : 0;
  const int blocks_m = *num_blocks;
  const int num_tiles = blocks_m * sizes.pairs_n, step = gridDim.x / kSharing;
  Ring<kTileN> ring;

  if (me.group == 2) {
    ptx::registers_down<kLoadRegisters>();
    if (me.warp == kMathWarps && ptx::elect_one()) {
      for (int tile = blockIdx.x / kSharing; tile < num_tiles; tile += step) {
        const auto [m, pair] = tile_at(tile, blocks_m, sizes.pairs_n, sizes.strip_rows);
        const int n = pair * kSharing + rank, expert = block_expert[m];
        for (int k = 0; k < sizes.blocks_k; k++, ring.advance()) {
          uint64_t* full = &shared.full[ring.stage];
          wait_empty<kSharing>(shared, ring);
          ptx::mbarrier_arrive_expect(full, sizeof(Stage<kTileN>) + sizeof(shared.a_scales[0]));
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
      const auto [m, pair] = tile_at(tile, blocks_m, sizes.pairs_n, sizes.strip_rows);
      // The second of a pair may stand past an odd number of tiles: it multiplies, and its stores
      // fall outside.
      const int n = pair * kSharing + rank, first_n = n * kTileN < sizes.n ? n * kTileN : 0;
      // The tile's columns stand in one or two blocks of 128 rows of w: `left` of them in the
      // first.
      const int block_n = first_n / 128, left = (block_n + 1) * 128 - first_n;
      const int first_scale = (block_expert[m] * sizes.scale_blocks + block_n) * sizes.scale_stride;
      const int second_scale =
          first_scale + (block_n + 1 < sizes.scale_blocks ? sizes.scale_stride : 0);
      float product[kSums<kTileN>], sums[kSums<kTileN>] = {};
      for (int k = 0; k < sizes.blocks_k; k++, ring.advance()) {
        // Used after the product: their way from L2 is over by then.
        const float b_scale = __ldg(w_scales + first_scale + k),
                    b_second = __ldg(w_scales + second_scale + k);
        ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
        const float a_upper = shared.a_scales[ring.stage][row],
                    a_lower = shared.a_scales[ring.stage][row + 8];
        multiply(shared.stages[ring.stage], me.group, product);
        release<kSharing>(shared, ring, me.lane);
        const float upper = a_upper * b_scale, lower = a_lower * b_scale;
        const float upper_second = a_upper * b_second, lower_second = a_lower * b_second;
#pragma unroll
        for (int i = 0; i < kTileN / 8; i++) {
          const bool second = kTileN != 128 && i * 8 >= left;
          const float u = second ? upper_second : upper, l = second ? lower_second : lower;
          sums[4 * i] += u * product[4 * i];
          sums[4 * i + 1] += u * product[4 * i + 1];
          sums[4 * i + 2] += l * product[4 * i + 2];
          sums[4 * i + 3] += l * product[4 * i + 3];
        }
      }
      if (me.first_of_group) ptx::tma_wait_read();  // the last tile has left shared memory
      ptx::named_barrier(1 + me.group, kGroup);
      __nv_bfloat16* out = shared.y + me.group * kGroupRows * kTileN;
      write_bf16<kTileN>(sums, me, out);
      ptx::fence_async_proxy();
      ptx::named_barrier(1 + me.group, kGroup);
      if (me.first_of_group) {
        for (int column = 0; column < kTileN; column += kBoxColumns<kTileN>) {
          ptx::tma_store(&y, out + kGroupRows * column, n * kTileN + column,
                         m * kTileM + me.group * kGroupRows);
        }
        ptx::tma_commit();
      }
    }
    if (me.first_of_group) ptx::tma_wait();
  }
  finish<kSharing>();
}

struct WgradSizes {
  int m, n, experts;
  int strip_rows;
};

// Half of the warpgroup's sums, rows half * kAddRows .. of its 64, into shared memory as swizzled
// boxes of kAddColumns.
template <int kTileN>
STRAIT_DEVICE void write_half(const float (&sums)[kSums<kTileN>], const Place& me, int half,
                              float* to) {
  if (me.warp % 4 / 2 != half) return;
  const int row = me.row % kAddRows;  // and row + 8, which the swizzle moves the same
#pragma unroll
  for (int i = 0; i < kTileN / 8; i++) {
    const int box = i / 4, chunk = (i % 4 * 2 + me.column / 4) ^ row % 8;
    float* at = to + (box * kAddRows + row) * kAddColumns + chunk * 4 + me.column % 4;
    *reinterpret_cast<float2*>(at) = {sums[4 * i], sums[4 * i + 1]};
    *reinterpret_cast<float2*>(at + 8 * kAddColumns) = {sums[4 * i + 2], sums[4 * i + 3]};
  }
}

template <int kSharing, int kTileN>
__global__ __launch_bounds__(kThreads, 1) void wgrad_kernel(
    const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap dy_scales,
    const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap x_scales,
    const __grid_constant__ CUtensorMap dw, const int* __restrict__ first_block,
    const int* __restrict__ end_block, WgradSizes sizes) {
  auto& shared = *reinterpret_cast<Shared<kTileN>*>(ptx::dynamic_shared());
  const Place me;
  start<kSharing>(shared);

  const int rank = kSharing > 1 ? ptx::cluster_rank() : 0;
  const int blocks_m = (sizes.m + kTileM - 1) / kTileM, blocks_n = (sizes.n + kTileN - 1) / kTileN;
  const int pairs_n = (blocks_n + kSharing - 1) / kSharing, per_expert = blocks_m * pairs_n;
  const int num_tiles = per_expert * sizes.experts, step = gridDim.x / kSharing;
  Ring<kTileN> ring;

  if (me.group == 2) {
    ptx::registers_down<kLoadRegisters>();
    if (me.warp == kMathWarps && ptx::elect_one()) {
      for (int tile = blockIdx.x / kSharing; tile < num_tiles; tile += step) {
        const int expert = tile / per_expert;
        const auto [m, pair] = tile_at(tile % per_expert, blocks_m, pairs_n, sizes.strip_rows);
        const int n = pair * kSharing + rank;
        for (int k = first_block[expert]; k < end_block[expert]; k++, ring.advance()) {
          uint64_t* full = &shared.full[ring.stage];
          wait_empty<kSharing>(shared, ring);
          ptx::mbarrier_arrive_expect(full, sizeof(Stage<kTileN>) + sizeof(shared.a_scales[0]) +
                                                sizeof(shared.b_scales[0]));
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
      const auto [m, pair] = tile_at(tile % per_expert, blocks_m, pairs_n, sizes.strip_rows);
      const int n = pair * kSharing + rank;
      int k = first_block[expert];
      if (k == k_end) continue;
      float product[kSums<kTileN>], sums[kSums<kTileN>] = {};
      for (; k < k_end; k++, ring.advance()) {
        ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
        const float upper = shared.a_scales[ring.stage][row],
                    lower = shared.a_scales[ring.stage][row + 8];
        const float* b_scales = &shared.b_scales[ring.stage][me.column];
        multiply(shared.stages[ring.stage], me.group, product);
#pragma unroll
        for (int i = 0; i < kTileN / 8; i++) {
          const auto b_scale = *reinterpret_cast<const float2*>(b_scales + i * 8);
          sums[4 * i] += upper * b_scale.x * product[4 * i];
          sums[4 * i + 1] += upper * b_scale.y * product[4 * i + 1];
          sums[4 * i + 2] += lower * b_scale.x * product[4 * i + 2];
          sums[4 * i + 3] += lower * b_scale.y * product[4 * i + 3];
        }
        __syncwarp();  // all lanes have read their scales
        release<kSharing>(shared, ring, me.lane);
      }
      float* out = shared.dw + me.group * kAddRows * kTileN;
      for (int half = 0; half < 2; half++) {
        if (me.first_of_group) ptx::tma_wait_read();
        ptx::named_barrier(1 + me.group, kGroup);
        write_half<kTileN>(sums, me, half, out);
        ptx::fence_async_proxy();
        ptx::named_barrier(1 + me.group, kGroup);
        if (me.first_of_group) {
          // Where m is no multiple of 128, the rows past it are zeros, added to the next expert's:
          // they change nothing.
          const int dw_row =
              expert * sizes.m + m * kTileM + me.group * kGroupRows + half * kAddRows;
          for (int column = 0; column < kTileN; column += kAddColumns) {
            ptx::tma_add(&dw, out + kAddRows * column, n * kTileN + column, dw_row);
          }
          ptx::tma_commit();
        }
      }
    }
    if (me.first_of_group) ptx::tma_wait();
  }
  finish<kSharing>();
}

}  // namespace strait::cuda::grouped_fp8
