// core/ops/cuda/adamw.h: core/ops/adamw.h on a GPU, with its bits.
#pragma once

#include <cuda_runtime_api.h>

#include "core/ops/cuda/rows.h"
#include "core/ops/math/adamw.h"

namespace strait::cuda {

// One pass: with m and v in BF16 and a BF16 copy, 22 bytes per element.
struct AdamW {
  AdamWFactors factors;
  const float* gradient = nullptr;
  float* master = nullptr;
  Rows m, v;                  // one row each
  float* copy_f32 = nullptr;  // may be null
  void* copy_bf16 = nullptr;  // may be null
  int64_t numel = 0;
};
void adamw(const AdamW& call, cudaStream_t stream);

}  // namespace strait::cuda
