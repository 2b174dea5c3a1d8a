// core/ops/cpu/kernels/attention_backward.h: backward of causal attention, one sequence and head at
// a time.
#pragma once

#include "core/ops/cpu/kernels/attention_args.h"
#include "core/ops/cpu/kernels/declare.h"

namespace strait::cpu {

struct AttentionBackwardArgs {
  AttentionKernelArgs forward;
  Rows d_o, d_q, d_kv;
};

static constexpr long kAttentionBackwardKeys =
    48;  // as many as queries, so that only whole blocks are diagonal

// Words of scratch for one thread; linear in the sequence length.
static inline long attention_backward_scratch_words(const AttentionKernelArgs& args, long step) {
  const AttentionWords w = attention_words(args, step);
  const long block = kAttentionQueries;
  const long queries = attention_blocks(args.sequence_length, block) * block;
  const long per_query = w.qk_row + w.v_row + (w.qk_cols + w.v_cols) / step + w.qk_cols + 2;
  const long rows = w.qk_row > w.v_row ? w.qk_row : w.v_row,
             cols = w.qk_cols > w.v_cols ? w.qk_cols : w.v_cols;
  const long per_key = w.qk_row + w.v_row + w.qk_cols + w.qk_cols + w.v_cols;
  return queries * per_query + block * (per_key + rows + cols + 5 * block);
}

}  // namespace strait::cpu

// d_q and d_kv of one sequence and head, and its part of d_k_rope: d_k_rope_part [S, rope],
// contiguous.
STRAIT_CPU_DECLARE_WITH_AMX(void attention_backward_f32(const AttentionBackwardArgs& args,
                                                        long sequence, long head,
                                                        float* d_k_rope_part, float* scratch))
STRAIT_CPU_DECLARE_WITH_AMX(void attention_backward_bf16(const AttentionBackwardArgs& args,
                                                         long sequence, long head,
                                                         float* d_k_rope_part, float* scratch))
