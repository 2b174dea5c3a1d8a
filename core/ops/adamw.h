// core/ops/adamw.h: one AdamW step over a shard, in one pass through memory.
#pragma once

#include "core/context.h"
#include "core/ops/math/adamw.h"

namespace strait {

struct AdamWStep {
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
  // 1 - beta^t for the step number t, counted from 1.
  double bias_correction1 = 1, bias_correction2 = 1;
  double gradient_scale = 1;  // multiplies the gradient first (clipping)
};

// Contiguous tensors of the same number of elements.
struct AdamWTensors {
  Tensor gradient;   // f32, read
  Tensor master;     // f32, updated
  Tensor m, v;       // f32 or bf16 each, updated
  Tensor copy_f32;   // the new master; may be undefined
  Tensor copy_bf16;  // the new master, rounded to nearest even; may be undefined
};

// Per element, in FP32 and in the order of torch.optim.AdamW:
//   p *= 1 - lr * weight_decay;  m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g * g;
//   p += (-lr / bias_correction1 * m) / (sqrt(v) / sqrt(bias_correction2) + eps).
// m and v enter the last line before they are rounded for storage. The element's formula is
// adamw_element of core/ops/math/adamw.h.   Source: Loshchilov and Hutter 2019, algorithm 2.
void adamw(Context& ctx, const AdamWStep& step, AdamWTensors& tensors);

// The factors of a step as adamw_element takes them.
AdamWFactors adamw_factors(const AdamWStep& step);

}  // namespace strait
