#include "core/ops/cuda/device.h"
#include "core/ops/cuda/kernels/expert_blocks.cuh"

namespace strait::cuda {

void find_expert_blocks(const ExpertBlocks& call, cudaStream_t stream) {
  if (call.experts < 1 || call.experts > kMaxExperts) {
    throw InternalError("[expert_blocks] " + std::to_string(call.experts) + " experts; 1 to " +
                        std::to_string(kMaxExperts) + " are possible");
  }
  expert_blocks_kernel<<<1, kMaxExperts, 0, stream>>>(call);
  STRAIT_CUDA_CALL(cudaGetLastError());
}

}  // namespace strait::cuda
