// core/ops/cpu/kernels/rms_norm.h: rows [begin, end) of rms_norm and its gradient.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"
#include "core/ops/math/rms_norm.h"

namespace strait::cpu {
struct RmsNormGradient {
  Rows dy, x, dx;
  const float* weight = nullptr;
  float* d_weight = nullptr;  // overwritten with the sum over these rows; null: not wanted
  bool want_dx = true, accumulate = false;
  float eps = 0;
};
}  // namespace strait::cpu

STRAIT_CPU_DECLARE(void rms_norm(Rows x, const float* weight, float eps, Rows y, long cols,
                                 long begin, long end))
STRAIT_CPU_DECLARE(void rms_norm_backward(const RmsNormGradient& args, long cols, long begin,
                                          long end))
