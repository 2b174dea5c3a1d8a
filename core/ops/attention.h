// core/ops/attention.h: causal self-attention for training, in the shapes of MLA.
// T tokens = B sequences of S positions, N heads; rows are ordered by sequence, then position.
//
// Blockwise with an online softmax: no sequence-by-sequence matrix exists at any time, and blocks
// above the diagonal are skipped. Products are accumulated in FP32 and the softmax is FP32 for
// every dtype; with BF16 activations the operands of all products are BF16, probabilities included.
// A sequence's result does not depend on the other sequences of the call, nor on the number of
// threads. Source: DeepSeek-V2 report, section 2.1 (MLA); Dao, FlashAttention-2 (the block order of
// both passes).
#pragma once

#include <cstdint>

#include "core/context.h"
#include "core/tensor.h"

namespace strait {

struct AttentionShape {
  int64_t num_sequences = 0;    // B
  int64_t sequence_length = 0;  // S
  int64_t num_heads = 0;        // N
  int64_t qk_nope_dim = 0;      // qk_nope_dim + qk_rope_dim > 0; either may be 0
  int64_t qk_rope_dim = 0;
  int64_t v_dim = 0;
  float softmax_scale = 0;  // > 0; see attention_softmax_scale() in core/ops/rope.h

  int64_t num_tokens() const { return num_sequences * sequence_length; }  // T
  int64_t qk_dim() const { return qk_nope_dim + qk_rope_dim; }
};

// o = softmax(softmax_scale * q k^T + causal mask) v for every sequence and head.
//   q       [T, N * (nope + rope)]  per head: nope dims, then rope dims (already rotated)
//   kv      [T, N * (nope + v)]     per head: k_nope, then v, as kv_b_proj produces it
//   k_rope  [T, rope]               one rotated key part that all heads share
//   o       [T, N * v]              overwritten
//   lse     [T, N] f32              overwritten: log-sum-exp of the scaled scores, kept for the
//   backward
// All but lse have one dtype, f32 or bf16, and any may be a column view. REQUIRES: o and lse
// overlap no input. Errors: InternalError when a shape, dtype or size is wrong. Cost: B * N * S (S
// + 1) / 2 visible pairs, 2 (qk + v) FLOPs each. Workspace: one f32 (or bf16) copy of k and v for
// as many heads as there are threads, linear in S.
void attention(Context& ctx, const AttentionShape& shape, const Tensor& q, const Tensor& kv,
               const Tensor& k_rope, const Tensor& o, const Tensor& lse);

// What the backward reads: the forward's inputs and results, and the gradient of o.
struct AttentionSaved {
  Tensor q, kv, k_rope, o, lse;
};

// The gradients it writes: shapes and dtypes of q, kv and k_rope; each may be a column view.
struct AttentionGradients {
  Tensor d_q, d_kv, d_k_rope;  // all overwritten; d_k_rope is the sum over the heads, in head order
};

// Gradients of sum(o * d_o). d_o [T, N * v] has the dtype of o.
// REQUIRES: the gradients overlap none of the inputs.
// Cost: 4 (qk + v) FLOPs per visible pair; the scores it computes again are not billed.
void attention_backward(Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                        const Tensor& d_o, const AttentionGradients& gradients);

// The same with the tensors one by one.
inline void attention_backward(Context& ctx, const AttentionShape& shape, const Tensor& q,
                               const Tensor& kv, const Tensor& k_rope, const Tensor& o,
                               const Tensor& lse, const Tensor& d_o, const Tensor& d_q,
                               const Tensor& d_kv, const Tensor& d_k_rope) {
  attention_backward(ctx, shape, {q, kv, k_rope, o, lse}, d_o, {d_q, d_kv, d_k_rope});
}

}  // namespace strait
