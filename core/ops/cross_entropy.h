// core/ops/cross_entropy.h: next-token loss of a chunk of tokens.   C tokens of the chunk, V
// vocabulary.
#pragma once

#include "core/context.h"

namespace strait {

// nll_C[c] (f32) = log(sum_v exp(logits[c, v])) - logits[c, target], from FP32 logits less their
// maximum; the logarithm and the sum over blocks of 1024 columns are FP64. A target of -1 is
// ignored: nll 0. logits_CV: f32, rows may be strided; targets_C: i32. Other targets outside [0, V)
// are a DataError.
void cross_entropy(Context& ctx, const Tensor& logits_CV, const Tensor& targets_C, Tensor& nll_C);

// The same, and logits_CV becomes its own gradient: (softmax - onehot(target)) * scale, 0 where
// ignored.
void cross_entropy_with_gradient(Context& ctx, Tensor& logits_CV, const Tensor& targets_C,
                                 double scale, Tensor& nll_C);

}  // namespace strait
