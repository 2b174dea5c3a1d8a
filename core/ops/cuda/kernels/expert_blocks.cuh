// core/ops/cuda/kernels/expert_blocks.cuh: the kernel of core/ops/cuda/expert_blocks.h, plain CUDA,
// one block.
#pragma once

#include "core/ops/cuda/expert_blocks.h"

namespace strait::cuda {

// Launched with kMaxExperts threads: thread e sums the blocks of experts 0 .. e in log2 steps.
__global__ void expert_blocks_kernel(ExpertBlocks call) {
  __shared__ int ends[2][kMaxExperts];
  const int e = static_cast<int>(threadIdx.x);
  const int blocks =
      e < call.experts ? (call.counts[e] + kExpertAlignment - 1) / kExpertAlignment : 0;
  int now = 0, end = blocks;
  for (int distance = 1; distance < kMaxExperts; distance *= 2, now ^= 1) {
    ends[now][e] = end;
    __syncthreads();
    if (e >= distance) end += ends[now][e - distance];
  }
  if (e >= call.experts) return;
  call.first_block[e] = end - blocks;
  call.end_block[e] = end;
  if (e == call.experts - 1) *call.num_blocks = end;
  for (int block = end - blocks; block < end && block < call.max_blocks; block++) {
    call.block_expert[block] = e;
  }
}

}  // namespace strait::cuda
