// core/ops/math/adamw.h: AdamW's update of one element; the arithmetic and its order are the
// definition that every device follows.
#pragma once

#include <cmath>

#include "core/ops/math/host_device.h"

namespace strait {

// The factors of a step, each computed in FP64 and rounded to FP32 once.
struct AdamWFactors {
  float gradient_scale = 1;
  float decay = 1;            // 1 - lr * weight_decay
  float one_minus_beta1 = 0;  // 1 - beta1
  float beta2 = 0;
  float one_minus_beta2 = 0;   // 1 - beta2
  float sqrt_correction2 = 1;  // sqrt(1 - beta2^t)
  float eps = 0;
  float minus_step = 0;  // -lr / (1 - beta1^t)
};

STRAIT_HD inline void adamw_element(const AdamWFactors& k, float gradient, float& p, float& m,
                                    float& v) {
  const float g = gradient * k.gradient_scale;
  p = p * k.decay;
  m = fmaf(k.one_minus_beta1, g - m, m);
  v = v * k.beta2 + k.one_minus_beta2 * g * g;
  const float denominator = sqrtf(v) / k.sqrt_correction2 + k.eps;
  p = p + k.minus_step * m / denominator;
}

}  // namespace strait
