// core/ops/math/activation.h: sigmoid and SwiGLU of one element; the definition that every device
// follows.
#pragma once

#include "core/ops/math/exp.h"

namespace strait {

STRAIT_HD inline float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

// silu(gate) * up * weight.
STRAIT_HD inline float swiglu_element(float gate, float up, float weight) {
  return gate * sigmoid_f32(gate) * up * weight;
}

// From dh: d_gate, d_up and this element's part of d_weight's sum (to be added as fma(dh * silu,
// up, sum)).
struct SwigluGradient {
  float d_gate, d_up, dh_silu;
};
STRAIT_HD inline SwigluGradient swiglu_gradient(float dh, float gate, float up, float weight) {
  const float s = sigmoid_f32(gate), silu = gate * s, scaled = dh * weight;
  return {scaled * up * (s * fmaf(gate, 1.0f - s, 1.0f)), scaled * silu, dh * silu};
}

}  // namespace strait
