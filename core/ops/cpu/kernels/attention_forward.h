// core/ops/cpu/kernels/attention_forward.h: forward of causal attention, one query block at a time.
#pragma once

#include "core/ops/cpu/kernels/attention_args.h"
#include "core/ops/cpu/kernels/declare.h"

namespace strait::cpu {

// Words of one packed key block: keys as rows, then values transposed.
static inline long attention_forward_block_words(const AttentionKernelArgs& args, long step) {
  const AttentionWords w = attention_words(args, step);
  return kAttentionForwardKeys * (w.qk_row + w.v_cols / step);
}
// Words of scratch for one thread.
static inline long attention_forward_scratch_words(const AttentionKernelArgs& args, long step) {
  const AttentionWords w = attention_words(args, step);
  const long rows = w.qk_row > w.v_row ? w.qk_row : w.v_row;
  const long pack = kAttentionForwardKeys * (rows + w.v_cols / step);
  const long work = kAttentionQueries * (2 * w.qk_row + 2 * w.v_cols + kAttentionForwardKeys + 4);
  return pack > work ? pack : work;
}

}  // namespace strait::cpu

// Packs keys [96 * block, + 96) of one sequence and head; keys past the end of the sequence become
// zero.
STRAIT_CPU_DECLARE_WITH_AMX(void attention_pack_f32(const AttentionKernelArgs& args, long sequence,
                                                    long head, long block, float* packed,
                                                    float* scratch))
STRAIT_CPU_DECLARE_WITH_AMX(void attention_pack_bf16(const AttentionKernelArgs& args, long sequence,
                                                     long head, long block, float* packed,
                                                     float* scratch))
// o and lse of queries [48 * block, + 48). `packed` holds the sequence's key blocks one after
// another.
STRAIT_CPU_DECLARE_WITH_AMX(void attention_forward_f32(const AttentionKernelArgs& args,
                                                       long sequence, long head, long block,
                                                       const float* packed, float* scratch))
STRAIT_CPU_DECLARE_WITH_AMX(void attention_forward_bf16(const AttentionKernelArgs& args,
                                                        long sequence, long head, long block,
                                                        const float* packed, float* scratch))
