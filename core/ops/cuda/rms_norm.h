// core/ops/cuda/rms_norm.h: core/ops/rms_norm.h on a GPU, with its bits.   T rows, H hidden.
#pragma once

#include <cuda_runtime_api.h>

#include "core/ops/cuda/fp8_rows.h"
#include "core/ops/cuda/rows.h"

namespace strait::cuda {

// y = x / rms(x) * weight, and y in FP8 too. BF16: 4 bytes per element (x is read again, from L2);
// 5 with FP8, 3 with FP8 alone.
struct RmsNorm {
  Rows x;
  const float* weight = nullptr;  // [H]
  float eps = 0;
  Rows y;                      // data may be null where q is wanted
  int64_t rows = 0, cols = 0;  // T, H
  Fp8Rows q;                   // of y. REQUIRES: y is BF16, also where it is not stored
};
void rms_norm(const RmsNorm& call, cudaStream_t stream);

// BF16: 6 bytes per element for dx (8 where it accumulates), and 4 for d_weight (8 where dx is dy).
struct RmsNormBackward {
  Rows dy, x, dx;                 // dx may be dy; its data may be null: not wanted
  const float* weight = nullptr;  // [H]
  float eps = 0;
  bool accumulate = false;     // dx only
  int64_t rows = 0, cols = 0;  // T, H
  float* d_weight = nullptr;   // [H], always added to; may be null
  float* inverse = nullptr;    // [T] scratch, and
  float* partial = nullptr;    // [ceil(T / 32), H] scratch, where d_weight is wanted
};
void rms_norm_backward(const RmsNormBackward& call, cudaStream_t stream);

}  // namespace strait::cuda
