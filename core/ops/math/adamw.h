// core/ops/math/adamw.h: AdamW's update of one element; the arithmetic and its order are the
// definition that every device follows.
#pragma once

#include "core/ops/math/formula.h"

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

template <class N>
STRAIT_FORMULA void adamw_element(const AdamWFactors& k, typename N::F gradient, typename N::F& p,
                                  typename N::F& m, typename N::F& v) {
  const typename N::F g = gradient * N::set(k.gradient_scale);
  p = p * N::set(k.decay);
  m = N::fma(N::set(k.one_minus_beta1), g - m, m);
  v = v * N::set(k.beta2) + N::set(k.one_minus_beta2) * g * g;
  const typename N::F denominator = N::sqrt(v) / N::set(k.sqrt_correction2) + N::set(k.eps);
  p = p + N::set(k.minus_step) * m / denominator;
}

}  // namespace strait
