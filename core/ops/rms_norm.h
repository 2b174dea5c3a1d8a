// core/ops/rms_norm.h: root-mean-square normalisation of rows.   T tokens, H hidden.
// "A" is an activation type: f32 or bf16. Rows may be strided (column views). All sums are FP32 in
// a fixed order, so a row's result depends on that row alone.
#pragma once

#include "core/context.h"
#include "core/ops/accumulate.h"
#include "core/ops/quantize.h"

namespace strait {

// y_TH = x_TH / sqrt(mean(x_TH^2 over H) + eps) * weight_H.   x: A, y: A, weight: f32.
void rms_norm(Context& ctx, const Tensor& x_TH, const Tensor& weight_H, double eps, Tensor& y_TH);

// Gradients from dy_TH (A). 1 / rms is computed again from x, so nothing needs saving besides x.
// dx_TH (A) is written or added to; d_weight_H (f32) is always added to. Either may be an undefined
// Tensor and is then skipped. d_weight sums chunks of 32 rows in a fixed tree: the same bits for
// any number of threads. dx may be dy.
// The same in FP8 at once, with the bits of quantize_rows of a BF16 y.
void rms_norm(Context& ctx, const Tensor& x_TH, const Tensor& weight_H, double eps,
              Fp8Matrix& y_TH);

void rms_norm_backward(Context& ctx, const Tensor& dy_TH, const Tensor& x_TH,
                       const Tensor& weight_H, double eps, Accumulate accumulate, Tensor& dx_TH,
                       Tensor& d_weight_H);

}  // namespace strait
