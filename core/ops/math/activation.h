// core/ops/math/activation.h: sigmoid and SwiGLU of one element; the definition that every device
// follows.
#pragma once

#include "core/ops/math/formula.h"

namespace strait {

// 0 and 1 at the far ends, NaN stays NaN.
template <class N>
STRAIT_FORMULA typename N::F sigmoid(typename N::F x) {
  return N::set(1.0f) / (N::set(1.0f) + N::exp(-x));
}

template <class N>
STRAIT_FORMULA typename N::F silu(typename N::F x) {
  return x * sigmoid<N>(x);
}

// silu(gate) * up * weight.
template <class N>
STRAIT_FORMULA typename N::F swiglu_element(typename N::F gate, typename N::F up,
                                            typename N::F weight) {
  return silu<N>(gate) * up * weight;
}

// From dh: d_gate, d_up and this element's part of d_weight's sum (to be added as fma(dh * silu,
// up, sum)).
template <class N>
struct SwigluGradient {
  typename N::F d_gate, d_up, dh_silu;
};
template <class N>
STRAIT_FORMULA SwigluGradient<N> swiglu_gradient(typename N::F dh, typename N::F gate,
                                                 typename N::F up, typename N::F weight) {
  const typename N::F one = N::set(1.0f), s = sigmoid<N>(gate), silu = gate * s,
                      scaled = dh * weight;
  return {scaled * up * (s * N::fma(gate, one - s, one)), scaled * silu, dh * silu};
}

}  // namespace strait
