// core/ops/cpu/kernels/attention_args.h: one call of attention as its kernels see it. See
// core/ops/attention.h for the shapes. Static functions only: these are compiled with several
// instruction sets.
#pragma once

#include "core/ops/cpu/rows.h"

namespace strait::cpu {

struct AttentionKernelArgs {
  long sequence_length, num_heads, qk_nope_dim, qk_rope_dim, v_dim;
  float softmax_scale;
  Rows q, kv, k_rope, o, lse;
};

static constexpr long kAttentionQueries = 48;      // queries of a block: three registers of 16
static constexpr long kAttentionForwardKeys = 96;  // keys of a packed block

static inline long attention_blocks(long length, long block) {
  return (length + block - 1) / block;
}
static inline long round_up_16(long n) { return (n + 15) / 16 * 16; }

// Sizes of packed rows in words; a word holds `step` numbers (2 where the kernels multiply BF16
// pairs, else 1).
struct AttentionWords {
  long qk, v;            // steps of a product over the qk or the v dimension
  long qk_row, v_row;    // the same, rounded up to 16
  long qk_cols, v_cols;  // numbers of a row, rounded up to 16
};
static inline AttentionWords attention_words(const AttentionKernelArgs& args, long step) {
  const long qk = args.qk_nope_dim + args.qk_rope_dim, v = args.v_dim;
  const long qk_words = (qk + step - 1) / step, v_words = (v + step - 1) / step;
  return {qk_words,        v_words,       round_up_16(qk_words), round_up_16(v_words),
          round_up_16(qk), round_up_16(v)};
}

}  // namespace strait::cpu
