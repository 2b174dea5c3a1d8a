// core/ops/cuda/cross_entropy.h: core/ops/cross_entropy.h on a GPU.   C tokens of the chunk, V
// vocabulary. Gradients have the CPU's bits; a loss is the CPU's but for the last place of the
// device's FP64 logarithm, which FP32 seldom shows.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace strait::cuda {

constexpr int64_t kMaxVocabulary = int64_t{1} << 20;

// 8 bytes per logit, 16 with the gradient.
struct CrossEntropy {
  float* logits = nullptr;       // [C, V]; becomes its own gradient where that is asked
  int64_t stride = 0;            // from row to row
  const int* targets = nullptr;  // [C]: -1 (ignored) or in [0, V)
  float* nll = nullptr;          // [C]
  int64_t rows = 0, cols = 0;    // C, V. REQUIRES: V <= kMaxVocabulary
  bool gradient = false;
  double scale = 0;  // of the gradient
};
void cross_entropy(const CrossEntropy& call, cudaStream_t stream);

}  // namespace strait::cuda
