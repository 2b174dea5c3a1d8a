// core/ops/embedding.h: rows of a table by token id.   T tokens, V vocabulary, H hidden.
// A token id outside [0, V) is a DataError: the corpus and the model do not belong together.
#pragma once

#include "core/context.h"

namespace strait {

// out_TH[t] = weight_VH[tokens_T[t]].   tokens: i32, weight and out: f32 or bf16.
void embedding(Context& ctx, const Tensor& tokens_T, const Tensor& weight_VH, Tensor& out_TH);

// d_weight_VH[tokens_T[t]] += d_TH[t], in the order of t for any number of threads.   d: f32 or
// bf16, d_weight: f32.
void embedding_backward(Context& ctx, const Tensor& tokens_T, const Tensor& d_TH,
                        Tensor& d_weight_VH);

}  // namespace strait
