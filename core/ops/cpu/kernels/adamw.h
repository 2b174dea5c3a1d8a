// core/ops/cpu/kernels/adamw.h: elements [begin, end) of an AdamW step.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"

namespace strait::cpu {
struct AdamWArrays {
  const float* gradient = nullptr;
  float* master = nullptr;
  Rows m, v;                            // one row
  float* copy_f32 = nullptr;            // may be null
  unsigned short* copy_bf16 = nullptr;  // may be null
};
// The members of strait::AdamWFactors in its order, for code without std headers.
struct AdamWScalars {
  float gradient_scale, decay, one_minus_beta1, beta2, one_minus_beta2, sqrt_correction2, eps,
      minus_step;
};
}  // namespace strait::cpu

STRAIT_CPU_DECLARE(void adamw(const AdamWScalars& k, const AdamWArrays& arrays, long begin,
                              long end))
