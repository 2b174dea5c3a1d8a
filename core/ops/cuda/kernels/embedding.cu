#include "core/ops/cuda/embedding.h"
#include "core/ops/cuda/kernels/rows.cuh"

namespace strait::cuda {
namespace {

constexpr int kTokenThreads = 128;

// A block for a token, or a part of its columns. The first token of an id adds for all of them: so
// no two blocks meet in a row of the table, and the order is that of the tokens.
__global__ void embedding_backward_kernel(EmbeddingBackward call, unsigned blocks_per_row) {
  __shared__ int earlier;
  __shared__ unsigned
      same[kTokenThreads / kWarpLanes];  // of the tokens that are looked at, a bit each
  const int64_t token = blockIdx.x / blocks_per_row;
  const int64_t col =
      (static_cast<int64_t>(blockIdx.x % blocks_per_row) * kTokenThreads + threadIdx.x) * kChunk;
  const int id = call.tokens[token];
  if (threadIdx.x == 0) earlier = 0;
  __syncthreads();
  for (int64_t t = threadIdx.x; t < token; t += kTokenThreads) {
    if (call.tokens[t] == id) earlier = 1;
  }
  __syncthreads();
  if (earlier != 0) return;
  const Rows table{call.d_weight, call.cols, false};
  const int64_t count = call.cols - col;
  Eight sum = Eight::load(table, id, col, count);
  for (int64_t start = token; start < call.num_tokens; start += kTokenThreads) {
    const int64_t t = start + threadIdx.x;
    const unsigned found = __ballot_sync(~0u, t < call.num_tokens && call.tokens[t] == id);
    if (lane_of_warp() == 0) same[warp_of_block()] = found;
    __syncthreads();
    for (int warp = 0; warp < kTokenThreads / kWarpLanes; warp++) {
      for (unsigned left = same[warp]; left != 0; left &= left - 1) {
        const int64_t row = start + warp * kWarpLanes + __ffs(static_cast<int>(left)) - 1;
        const Eight d = Eight::load(call.d, row, col, count);
#pragma unroll
        for (int i = 0; i < kChunk; i++) sum.x[i] += d.x[i];
      }
    }
    __syncthreads();
  }
  sum.store(table, id, col, count);
}

}  // namespace

void embedding_backward(const EmbeddingBackward& call, cudaStream_t stream) {
  const ChunkGrid grid(call.num_tokens, ceil_div(call.cols, kChunk), kTokenThreads);
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(embedding_backward_kernel, grid.blocks, kTokenThreads, stream, call,
                grid.blocks_per_row);
}

}  // namespace strait::cuda
