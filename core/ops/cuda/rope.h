// core/ops/cuda/rope.h: core/ops/rope.h on a GPU, with its bits.
#pragma once

#include <cuda_runtime_api.h>

#include "core/ops/cuda/rows.h"

namespace strait::cuda {

// In place. BF16: 4 bytes per rotated element.
struct Rope {
  Rows x;
  int64_t rows = 0;
  int64_t num_heads = 1, head_stride = 0, offset = 0;  // as RopeLayout
  int64_t sequence_length = 1, start_position = 0;
  const float* table = nullptr;  // [positions, rope_dim]: cos and sin of pair 0, of pair 1, ...
  int64_t rope_dim = 0;          // even
  bool inverse = false;
};
void rope(const Rope& call, cudaStream_t stream);

}  // namespace strait::cuda
