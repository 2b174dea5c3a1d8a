// core/ops/cpu/kernels/rope.h: rotates interleaved pairs in place. See core/ops/rope.h.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/math/rope.h"

namespace strait::cpu {
struct RopeKernelArgs {
  long num_heads, head_stride, rope_dim, row_stride;  // in elements
  long sequence_length, start_position;
  const float* table;  // [positions, rope_dim]: cos, sin, cos, sin, ...
  float sin_sign;      // 1, or -1 for the transpose
};
}  // namespace strait::cpu

// Rows [begin, end) of x, whose first rotated column is x[0].
STRAIT_CPU_DECLARE(void rope_f32(float* x, const RopeKernelArgs& args, long begin, long end))
STRAIT_CPU_DECLARE(void rope_bf16(unsigned short* x, const RopeKernelArgs& args, long begin,
                                  long end))
