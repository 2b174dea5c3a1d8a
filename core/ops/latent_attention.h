// core/ops/latent_attention.h: attention of new tokens over MLA's compressed cache, for decoding.
// T new tokens at positions first_position .., N heads, C latent dimension, P positions in the
// cache.
//
// Keys and values are never unfolded: kv_b_proj is absorbed into the query before and into the
// output after, so all heads read the same rows of the cache, [latent; rotated key part], as keys
// and as values. Arithmetic is FP32 with an online softmax over blocks of 64 positions, counted
// from position 0: a token's result depends on its position, its query and the cache, not on the
// other new tokens or the number of threads. Source: DeepSeek-V2 report, section 2.1.2 and appendix
// C.
#pragma once

#include "core/context.h"

namespace strait {

struct LatentAttentionShape {
  int64_t num_heads = 0;
  int64_t latent_dim = 0;  // C
  int64_t rope_dim = 0;    // may be 0
  // Where head h's rotated part starts in a row of q: h * head_stride + rope_offset.
  int64_t head_stride = 0, rope_offset = 0;
  int64_t first_position = 0;  // of the first new token
  float softmax_scale = 0;
};

// out_NTC[h, t] = sum over positions j <= first_position + t of
//   softmax_j(softmax_scale * (q_latent_NTC[h, t] . latent[j] + q_rope[t, h] . k_rope[j])) *
//   latent[j]. q_latent_NTC, out_NTC  [N, T, C] f32, contiguous q                      [T, ...] f32
//   or bf16; only the rotated parts are read cache_PD               [P, C + rope] f32 or bf16; row
//   j is position j. REQUIRES: P >= first_position + T
// Cost: N * (C + rope + C) * 2 FLOPs for every (token, position) pair.
void latent_attention(Context& ctx, const LatentAttentionShape& shape, const Tensor& q_latent_NTC,
                      const Tensor& q, const Tensor& cache_PD, Tensor& out_NTC);

}  // namespace strait
