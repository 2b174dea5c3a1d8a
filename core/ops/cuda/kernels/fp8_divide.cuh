// core/ops/cuda/kernels/fp8_divide.cuh: from FP32 to E4M3 codes of a tile, in plain CUDA.
#pragma once

#include <cuda_fp8.h>

#include <cstdint>

namespace strait::cuda {

// Divides by a scale: x / scale, rounded to nearest as a division is, in three operations
// (Markstein: from the rounded inverse, a quotient and its exact remainder). Tiny scales and what
// they divide grow by a power of two, so that FP32 holds the remainder; of an infinite scale there
// is none.
struct Divide {
  float factor, scale, inverse;
  bool finite;

  __device__ explicit Divide(float by)
      : factor(by < 0x1p-60f ? 0x1p64f : 1.0f),
        scale(by * factor),
        inverse(1 / scale),
        finite(inverse > 0) {}
  __device__ float operator()(float x) const {
    x *= factor;
    const float quotient = x * inverse;
    return finite ? fmaf(fmaf(quotient, scale, -x), -inverse, quotient) : quotient;
  }
};

__device__ inline uint64_t two_e4m3(float first, float second) {
  return __nv_cvt_float2_to_fp8x2({first, second}, __NV_SATFINITE, __NV_E4M3);
}

// The largest over `lanes` neighbouring lanes. NaN counts as nothing, as fmaxf has it everywhere.
__device__ inline float lanes_max(float value, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, offset));
  }
  return value;
}

}  // namespace strait::cuda
