// core/ops/cuda/swiglu.h: core/ops/swiglu.h on a GPU, with its bits.   T rows, F intermediate size.
#pragma once

#include <cuda_runtime_api.h>

#include "core/ops/cuda/fp8_rows.h"
#include "core/ops/cuda/rows.h"

namespace strait::cuda {

// h = silu(gate) * up * weight, and h in FP8 too. BF16: 6 bytes per element of h; 7 with FP8, 5
// with FP8 alone.
struct Swiglu {
  Rows gate_up;                   // [T, 2F]
  const float* weight = nullptr;  // [T]; may be null
  Rows h;                         // [T, F]; data may be null where q is wanted
  int64_t rows = 0, cols = 0;     // T, F
  Fp8Rows q;                      // of h. REQUIRES: h is BF16, also where it is not stored
};
void swiglu(const Swiglu& call, cudaStream_t stream);

// BF16: 10 bytes per element of dh.
struct SwigluBackward {
  Rows dh, gate_up, d_gate_up;    // d_gate_up may be gate_up
  const float* weight = nullptr;  // [T], with d_weight, or both null
  float* d_weight = nullptr;      // [T]
  int64_t rows = 0, cols = 0;     // T, F
};
void swiglu_backward(const SwigluBackward& call, cudaStream_t stream);

}  // namespace strait::cuda
