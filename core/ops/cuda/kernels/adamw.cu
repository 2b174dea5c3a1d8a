#include "core/ops/cuda/adamw.h"
#include "core/ops/cuda/kernels/rows.cuh"

namespace strait::cuda {
namespace {

__global__ void adamw_kernel(AdamW call, unsigned blocks_per_row) {
  const int64_t at = ChunkPlace(blocks_per_row).col, count = call.numel - at;
  if (count <= 0) return;
  const Rows master{call.master, 0, false};
  const Eight gradient = Eight::load({const_cast<float*>(call.gradient), 0, false}, 0, at, count);
  Eight p = Eight::load(master, 0, at, count), m = Eight::load(call.m, 0, at, count),
        v = Eight::load(call.v, 0, at, count);
#pragma unroll
  for (int i = 0; i < kChunk; i++) {
    adamw_element<Scalar>(call.factors, gradient.x[i], p.x[i], m.x[i], v.x[i]);
  }
  m.store(call.m, 0, at, count);
  v.store(call.v, 0, at, count);
  p.store(master, 0, at, count);
  if (call.copy_f32 != nullptr) p.store({call.copy_f32, 0, false}, 0, at, count);
  if (call.copy_bf16 != nullptr) p.store({call.copy_bf16, 0, true}, 0, at, count);
}

}  // namespace

void adamw(const AdamW& call, cudaStream_t stream) {
  const ChunkGrid grid(1, ceil_div(call.numel, kChunk));
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(adamw_kernel, grid.blocks, grid.threads, stream, call, grid.blocks_per_row);
}

}  // namespace strait::cuda
