// core/ops/swiglu.h: the gated activation of an MLP.   T tokens (or rows), F intermediate size.
// gate_up_T2F holds the gate in its first F columns, up in the other F. "A" is f32 or bf16; the
// arithmetic is FP32, rounded once at the end. Rows may be strided.
#pragma once

#include "core/context.h"
#include "core/ops/quantize.h"

namespace strait {

// h_TF = silu(gate) * up, times weight_T (f32) of the row where that is defined. silu(x) = x / (1 +
// exp(-x)).
void swiglu(Context& ctx, const Tensor& gate_up_T2F, const Tensor& weight_T, Tensor& h_TF);

// Gradients from dh_TF: d_gate_up_T2F (A) and, where weight_T is defined, d_weight_T (f32), both
// overwritten. d_gate_up may be gate_up. REQUIRES: d_weight_T is defined if and only if weight_T
// is.
// The same in FP8 at once, with the bits of quantize_rows of a BF16 h.
void swiglu(Context& ctx, const Tensor& gate_up_T2F, const Tensor& weight_T, Fp8Matrix& h_TF);

void swiglu_backward(Context& ctx, const Tensor& dh_TF, const Tensor& gate_up_T2F,
                     const Tensor& weight_T, Tensor& d_gate_up_T2F, Tensor& d_weight_T);

}  // namespace strait
