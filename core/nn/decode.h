// core/nn/decode.h: runs a model token by token, with MLA's compressed cache.
// T new tokens, N heads, H hidden, C = kv_lora_rank, V vocabulary.
//
// Per layer and position the cache holds only the normed latent and the rotated key part, C + rope
// numbers in the compute dtype. kv_b_proj is absorbed: its key half turns the queries into latent
// space, its value half turns the attention's result back, so keys and values are never unfolded.
// The MTP module does not take part. A prompt runs in chunks; a token's logits depend on the tokens
// before it alone: the same bits however they were split into calls, and for any number of threads.
// Called from the rank's compute thread. Source: DeepSeek-V2 report, section 2.1.2.
#pragma once

#include <span>
#include <vector>

#include "core/nn/layer.h"

namespace strait {

class Decoder {
 public:
  // `model`: all its experts here, weights in place and packed (Engine::load_weights);
  // `selection_bias`: [MoE layers, E]. Takes memory for `max_positions` at once, which costs RAM
  // only as positions fill, and a packed copy of every kv_b_proj.
  Decoder(Context& ctx, const Model& model, std::span<const float> selection_bias,
          int64_t max_positions);

  enum class Logits : uint8_t { last, all };
  // Runs `tokens` at the next positions and returns the logits that follow the last of them [1, V],
  // or each of them [T, V], in FP32. REQUIRES: 1 <= tokens <= max_positions() - positions().
  // DataError: a token outside the vocabulary.
  Tensor run(std::span<const int32_t> tokens, Logits logits = Logits::last);

  int64_t positions() const { return positions_; }
  int64_t max_positions() const { return run_.rope->max_positions(); }
  // Forgets the positions from `positions` on. REQUIRES: 0 <= positions <= positions().
  void rewind(int64_t positions);
  int64_t cache_bytes() const;  // (C + rope) * max_positions * layers * bytes of the dtype

 private:
  struct Chunk;  // a stretch of new tokens
  struct Layer {
    Tensor cache;               // [max_positions, C + rope] compute dtype
    PackedWeight keys, values;  // kv_b_proj by head: [N, nope, C] and [N, v, C]
    Tensor selection_bias;      // [E], or undefined
  };
  Tensor run_chunk(std::span<const int32_t> tokens);
  void attend(const Chunk& chunk, size_t layer, Tensor& hidden_TH);
  Tensor queries(const Chunk& chunk, const AttentionParameters& p, const Tensor& x_TH);
  void feed_forward(size_t layer, Tensor& hidden_TH);
  Tensor normed(const Tensor& x, const Parameter& weight, double eps);

  Context& ctx_;
  const Model& model_;
  LayerContext run_;
  std::vector<Layer> layers_;
  int64_t positions_ = 0;
};

}  // namespace strait
