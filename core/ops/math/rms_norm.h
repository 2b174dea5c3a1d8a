// core/ops/math/rms_norm.h: one element of RMSNorm and of its gradient; the definition that every
// device follows. r is 1 / rms(x) of the row.
#pragma once

#include "core/ops/math/formula.h"

namespace strait {

template <class N>
STRAIT_FORMULA typename N::F rms_norm_element(typename N::F x, typename N::F weight,
                                              typename N::F r) {
  return weight * (x * r);
}

// What dx has of x itself, from the row's sum of dy * weight * x over n columns.
STRAIT_FORMULA float rms_norm_slope(float r, float dot, long n) {
  return -r * r * (dot / static_cast<float>(n));
}
// dx = r (dy w - x r^2 mean(dy w x)).
template <class N>
STRAIT_FORMULA typename N::F rms_norm_dx(typename N::F dy, typename N::F x, typename N::F weight,
                                         typename N::F r, typename N::F slope) {
  return N::fma(x, slope, dy * weight) * r;
}
// d_weight + dy x r.
template <class N>
STRAIT_FORMULA typename N::F rms_norm_dw(typename N::F dy, typename N::F x, typename N::F r,
                                         typename N::F d_weight) {
  return N::fma(dy, x * r, d_weight);
}

}  // namespace strait
