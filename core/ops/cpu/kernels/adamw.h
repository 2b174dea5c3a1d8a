// core/ops/cpu/kernels/adamw.h: elements [begin, end) of an AdamW step.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"
#include "core/ops/math/adamw.h"

namespace strait::cpu {
struct AdamWArrays {
  const float* gradient = nullptr;
  float* master = nullptr;
  Rows m, v;                            // one row
  float* copy_f32 = nullptr;            // may be null
  unsigned short* copy_bf16 = nullptr;  // may be null
};
}  // namespace strait::cpu

STRAIT_CPU_DECLARE(void adamw(const AdamWFactors& k, const AdamWArrays& arrays, long begin,
                              long end))
