// core/ops/math/scalar.h: one FP32 number for the formulas of core/ops/math/formula.h.
#pragma once

#include <cmath>

#include "core/ops/math/exp.h"

namespace strait {

struct Scalar {
  using F = float;
  STRAIT_HD static float set(float x) { return x; }
  STRAIT_HD static float fma(float a, float b, float c) { return fmaf(a, b, c); }
  STRAIT_HD static float exp(float x) { return exp_f32(x); }
  STRAIT_HD static float sqrt(float x) { return sqrtf(x); }
};

}  // namespace strait
