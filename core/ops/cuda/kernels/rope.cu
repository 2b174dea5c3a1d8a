#include "core/ops/cuda/kernels/rows.cuh"
#include "core/ops/cuda/rope.h"
#include "core/ops/math/rope.h"

namespace strait::cuda {
namespace {

// A row's chunks are those of head 0, of head 1, and so on.
__global__ void rope_kernel(Rope call, unsigned blocks_per_row) {
  const ChunkPlace at(blocks_per_row);
  const auto chunk = static_cast<int>(at.col / kChunk),
             per_head = static_cast<int>(ceil_div(call.rope_dim, kChunk));
  const int head = chunk / per_head, in_head = chunk % per_head * kChunk;
  if (head >= call.num_heads) return;
  const int64_t position = call.start_position + at.row % call.sequence_length;
  const int64_t col = head * call.head_stride + call.offset + in_head,
                count = call.rope_dim - in_head;
  const Eight x = Eight::load(call.x, at.row, col, count);
  const Eight turn =
      Eight::load({const_cast<float*>(call.table), call.rope_dim, false}, position, in_head, count);
  Eight turned;
#pragma unroll
  for (int i = 0; i < kChunk; i += 2) {
    const float cosine = turn.x[i], sine = call.inverse ? -turn.x[i + 1] : turn.x[i + 1];
    turned.x[i] = rope_element<Scalar>(x.x[i], x.x[i + 1], cosine, -sine);
    turned.x[i + 1] = rope_element<Scalar>(x.x[i + 1], x.x[i], cosine, sine);
  }
  turned.store(call.x, at.row, col, count);
}

}  // namespace

void rope(const Rope& call, cudaStream_t stream) {
  require(call.rope_dim % 2 == 0, "rope", "rope_dim " + std::to_string(call.rope_dim) + " is odd");
  const ChunkGrid grid(call.rows, call.num_heads * ceil_div(call.rope_dim, kChunk));
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(rope_kernel, grid.blocks, grid.threads, stream, call, grid.blocks_per_row);
}

}  // namespace strait::cuda
