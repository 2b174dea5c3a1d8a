// core/ops/cuda/embedding.h: the gradient of core/ops/embedding.h on a GPU, with its bits. The
// forward is gather_rows of core/ops/cuda/permute.h.   T tokens, V vocabulary, H hidden.
#pragma once

#include <cuda_runtime_api.h>

#include "core/ops/cuda/rows.h"

namespace strait::cuda {

// d_weight[tokens[t]] += d[t], in the order of t. BF16: 2 bytes per element, and 8 for each element
// of a table row that is named; each token's blocks read all tokens too, from L2, which is why T is
// a micro-batch and not a step's tokens.
struct EmbeddingBackward {
  const int* tokens = nullptr;  // [T], all in [0, V)
  Rows d;                       // [T, H]
  float* d_weight = nullptr;    // [V, H]
  int64_t num_tokens = 0, cols = 0;
};
void embedding_backward(const EmbeddingBackward& call, cudaStream_t stream);

}  // namespace strait::cuda
