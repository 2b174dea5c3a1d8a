#include "core/ops/cuda/expert_blocks.h"
#include "core/ops/cuda/kernels/rows.cuh"
#include "core/ops/cuda/permute.h"

namespace strait::cuda {
namespace {

constexpr int kCodesPerThread = 16;
constexpr int kTreeThreads = 128;
constexpr int kCountThreads = 1024;

__global__ void gather_rows_kernel(GatherRows call, unsigned blocks_per_row) {
  const ChunkPlace at(blocks_per_row);
  const int64_t count = call.cols - at.col;
  if (count <= 0) return;
  const int from = call.index[at.row];
  if (from >= 0) {
    copy_chunk(call.x, from, call.out, at.row, at.col, count);
  } else {
    Eight{}.store(call.out, at.row, at.col, count);
  }
}

__global__ void gather_fp8_rows_kernel(GatherFp8Rows call, unsigned blocks_per_row) {
  const int64_t row = blockIdx.x / blocks_per_row;
  const int64_t col =
      (static_cast<int64_t>(blockIdx.x % blocks_per_row) * blockDim.x + threadIdx.x) *
      kCodesPerThread;
  if (col >= call.cols) return;
  const int64_t from = call.index[row], count = call.cols - col;
  const uint8_t* source = call.codes + from * call.cols + col;
  uint8_t* target = call.out_codes + row * call.cols + col;
  if (count >= kCodesPerThread && is_aligned(source, 16) && is_aligned(target, 16)) {
    *reinterpret_cast<uint4*>(target) =
        from >= 0 ? *reinterpret_cast<const uint4*>(source) : uint4{0, 0, 0, 0};
  } else {
    for (int i = 0; i < kCodesPerThread && i < count; i++) target[i] = from >= 0 ? source[i] : 0;
  }
  if (col % kScaleBlock == 0) {
    constexpr ScaleLayout kLayout = ScaleLayout::rows_1x128;
    call.out_scales[scale_index(kLayout, call.rows, call.cols, row, col)] =
        from >= 0 ? call.scales[scale_index(kLayout, call.tokens, call.cols, from, col)] : 1.0f;
  }
}

// The depth of the node of the tree over [low, high) whose halves have a and b. REQUIRES: a < b.
__device__ int split_depth(int low, int high, int a, int b) {
  for (int depth = 0;; depth++) {
    const int mid = low + (high - low) / 2;
    if (a < mid && b >= mid) return depth;
    if (b < mid) {
      high = mid;
    } else {
      low = mid;
    }
  }
}

struct TreePlan {
  int depth[kMaxTreeEntries];                         // of the node that parts entry i from i + 1
  int left[kMaxTreeEntries], right[kMaxTreeEntries];  // additions, children before parents
};

// By one warp: entry i's thread finds the addition that joins what ends with entry i to what begins
// with i + 1. Sums are in the place of their first entry. Deeper nodes come first.
__device__ void plan_tree(TreePlan& plan, const TreeSum& call, int begin, int count) {
  const int i = lane_of_warp();
  if (i + 1 < count) {
    plan.depth[i] =
        split_depth(call.first, call.last, call.experts[begin + i], call.experts[begin + i + 1]);
  }
  __syncwarp();
  if (i + 1 >= count) return;
  const int mine = plan.depth[i];
  int left = i, place = 0;
  while (left > 0 && plan.depth[left - 1] > mine) left--;
  for (int j = 0; j + 1 < count; j++) {
    place += plan.depth[j] > mine || (plan.depth[j] == mine && j < i);
  }
  plan.left[place] = left;
  plan.right[place] = i + 1;
}

// A block for an output row, or a part of one; a thread has two columns, and a place of its own in
// shared memory for each entry.
__global__ void tree_sum_kernel(TreeSum call, unsigned blocks_per_row) {
  __shared__ Pair sums[kMaxTreeEntries][kTreeThreads];
  __shared__ TreePlan plan;
  const int64_t token = blockIdx.x / blocks_per_row;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t col =
                    2 * (static_cast<int64_t>(blockIdx.x % blocks_per_row) * kTreeThreads + thread),
                cols = call.cols - col;
  const int begin = call.offsets[token], count = call.offsets[token + 1] - begin;
  if (warp_of_block() == 0) plan_tree(plan, call, begin, count);
  __syncthreads();
  if (cols <= 0 || (count == 0 && call.accumulate)) return;
#pragma unroll 4
  for (int e = 0; e < count; e++) {
    sums[e][thread] = Pair::load(call.rows, call.entry_rows[begin + e], col, cols);
  }
  for (int a = 0; a + 1 < count; a++) {
    Pair& left = sums[plan.left[a]][thread];
    const Pair& right = sums[plan.right[a]][thread];
#pragma unroll
    for (int i = 0; i < 2; i++) left.x[i] += right.x[i];
  }
  Pair sum{};
  if (count > 0) sum = sums[0][thread];
  if (call.accumulate) {
    const Pair before = Pair::load(call.out, token, col, cols);
#pragma unroll
    for (int i = 0; i < 2; i++) sum.x[i] = before.x[i] + sum.x[i];
  }
  sum.store(call.out, token, col, cols);
}

// One block.
__global__ void count_experts_kernel(CountExperts call) {
  __shared__ int counts[kMaxCountedExperts];
  for (int e = static_cast<int>(threadIdx.x); e < call.experts; e += kCountThreads) counts[e] = 0;
  __syncthreads();
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < call.num_ids; i += kCountThreads) {
    const int id = call.ids[i];
    if (id >= 0 && id < call.experts) atomicAdd(&counts[id], 1);
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < call.experts; e += kCountThreads) {
    if (call.counts != nullptr) call.counts[e] = (call.accumulate ? call.counts[e] : 0) + counts[e];
    if (call.counts_as_int != nullptr) call.counts_as_int[e] = counts[e];
  }
}

__global__ void clear_order_kernel(ExpertOrder call) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kCountThreads + threadIdx.x;
  if (row >= call.max_rows) return;
  call.pair_of_row[row] = -1;
  call.token_of_row[row] = -1;
}

// A warp for each expert finds its pairs, 32 places of ids at a time.
__global__ void order_kernel(ExpertOrder call) {
  const int64_t expert = row_of_warp();
  if (expert >= call.experts) return;
  const int64_t pairs = call.tokens * call.top_k;
  int64_t row = static_cast<int64_t>(call.first_block[expert]) * kExpertAlignment;
  for (int64_t start = 0; start < pairs; start += kWarpLanes) {
    const int64_t pair = start + lane_of_warp();
    const bool found = pair < pairs && call.ids[pair] == expert;
    const unsigned all = __ballot_sync(~0u, found);
    const int before = __popc(all & ((1u << lane_of_warp()) - 1));
    if (found && row + before < call.max_rows) {
      call.pair_of_row[row + before] = static_cast<int>(pair);
      call.token_of_row[row + before] = static_cast<int>(pair / call.top_k);
      call.row_of_pair[pair] = static_cast<int>(row + before);
    }
    row += __popc(all);
  }
}

// A thread for each pair: its place among its token's, by expert.
__global__ void entries_kernel(ExpertOrder call) {
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * kCountThreads + threadIdx.x;
  if (pair > call.tokens * call.top_k) return;
  if (pair % call.top_k == 0) call.offsets[pair / call.top_k] = static_cast<int>(pair);
  if (pair == call.tokens * call.top_k) return;
  const int64_t first = pair / call.top_k * call.top_k;
  const int id = call.ids[pair];
  int64_t place = first;
  for (int k = 0; k < call.top_k; k++) place += call.ids[first + k] < id;
  call.experts_of[place] = id;
  call.rows_of[place] = call.row_of_pair[pair];
}

unsigned blocks_of(int64_t count, int threads) {
  return static_cast<unsigned>(ceil_div(count, threads));
}

}  // namespace

void gather_rows(const GatherRows& call, cudaStream_t stream) {
  const ChunkGrid grid(call.rows, ceil_div(call.cols, kChunk));
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(gather_rows_kernel, grid.blocks, grid.threads, stream, call, grid.blocks_per_row);
}

void gather_fp8_rows(const GatherFp8Rows& call, cudaStream_t stream) {
  const ChunkGrid grid(call.rows, ceil_div(call.cols, kCodesPerThread));
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(gather_fp8_rows_kernel, grid.blocks, grid.threads, stream, call,
                grid.blocks_per_row);
}

void tree_sum(const TreeSum& call, cudaStream_t stream) {
  require(call.most_entries <= kMaxTreeEntries, "tree_sum",
          std::to_string(call.most_entries) + " entries of an output row; " +
              std::to_string(kMaxTreeEntries) + " are possible");
  const ChunkGrid grid(call.tokens, ceil_div(call.cols, 2), kTreeThreads);
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(tree_sum_kernel, grid.blocks, kTreeThreads, stream, call, grid.blocks_per_row);
}

void count_experts(const CountExperts& call, cudaStream_t stream) {
  require(call.experts >= 1 && call.experts <= kMaxCountedExperts, "count_experts",
          std::to_string(call.experts) + " experts; 1 to " + std::to_string(kMaxCountedExperts) +
              " are possible");
  STRAIT_LAUNCH(count_experts_kernel, 1, kCountThreads, stream, call);
}

void order_by_expert(const ExpertOrder& call, cudaStream_t stream) {
  require(call.top_k >= 1 && call.top_k <= kMaxTreeEntries, "order_by_expert",
          "top_k " + std::to_string(call.top_k) + "; 1 to " + std::to_string(kMaxTreeEntries) +
              " are possible");
  require(call.tokens * call.top_k < 0x7fffffff, "order_by_expert",
          std::to_string(call.tokens) + " tokens are too many");
  if (call.max_rows > 0) {
    STRAIT_LAUNCH(clear_order_kernel, blocks_of(call.max_rows, kCountThreads), kCountThreads,
                  stream, call);
  }
  STRAIT_LAUNCH(order_kernel, warp_blocks(call.experts), kRowThreads, stream, call);
  STRAIT_LAUNCH(entries_kernel, blocks_of(call.tokens * call.top_k + 1, kCountThreads),
                kCountThreads, stream, call);
}

}  // namespace strait::cuda
