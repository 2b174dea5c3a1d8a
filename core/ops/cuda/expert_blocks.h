// core/ops/cuda/expert_blocks.h: where experts' rows stand, made on the device from how many each
// has: what core/ops/cuda/grouped_gemm_fp8.h reads. No wait on the host; can be captured in a
// graph. Thread-safe; enqueued on the stream.
#pragma once

#include <cuda_runtime_api.h>

namespace strait::cuda {

constexpr int kExpertAlignment = 128;
constexpr int kMaxExperts = 1024;  // on one rank

// All of it in device memory. Experts follow each other, each from a multiple of 128 rows.
struct ExpertBlocks {
  const int* counts = nullptr;  // [E] rows of each expert, >= 0
  int experts = 0;              // E. REQUIRES: 1..kMaxExperts
  int max_blocks = 0;           // REQUIRES: >= the blocks in use; places past it are not written
  int* first_block = nullptr;   // [E] the expert's first block of 128 rows,
  int* end_block = nullptr;     // [E] and the one after its last
  int* num_blocks = nullptr;    // [1] blocks in use
  int* block_expert = nullptr;  // [max_blocks] whose rows a block has; written for those in use
};

// Throws InternalError where `experts` is out of range.
void find_expert_blocks(const ExpertBlocks& call, cudaStream_t stream);

}  // namespace strait::cuda
