// core/ops/cpu/kernels/latent_attention.h: a few heads of one token over the compressed cache.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"

namespace strait::cpu {

constexpr long kLatentHeads = 4, kLatentKeys = 64;  // heads of one call, positions of one block

struct LatentAttentionArgs {
  const float* q_latent = nullptr;  // [N, T, C]
  float* out = nullptr;             // [N, T, C]
  Rows q;                           // row t: head h's rotated part at h * head_stride + rope_offset
  Rows cache;                       // row j: C latent numbers, then rope_dim rotated ones
  long num_tokens = 0, latent_dim = 0, rope_dim = 0, head_stride = 0, rope_offset = 0;
  long first_position = 0;
  float softmax_scale = 0;
};

// FP32 numbers of scratch that one call needs.
inline long latent_attention_scratch(long latent_dim, long rope_dim) {
  return kLatentHeads * (latent_dim + rope_dim + kLatentKeys);
}

}  // namespace strait::cpu

// Heads [head, head + heads) of new token t. REQUIRES: 1 <= heads <= kLatentHeads.
STRAIT_CPU_DECLARE(void latent_attention(const LatentAttentionArgs& args, long token, long head,
                                         long heads, float* scratch))
