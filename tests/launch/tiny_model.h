// tests/launch/tiny_model.h: a model with all of V3's parts that trains in milliseconds.
#pragma once

#include "core/nn/model_settings.h"

namespace strait::test {

inline ModelSettings tiny_model() {
  ModelSettings m;
  m.vocab_size = 64;
  m.hidden_size = 32;
  m.num_hidden_layers = 3;
  m.first_k_dense_replace = 1;
  m.initializer_range = 0.1;
  m.num_attention_heads = 2;
  m.q_lora_rank = 12;
  m.kv_lora_rank = 16;
  m.qk_nope_head_dim = 12;
  m.qk_rope_head_dim = 4;
  m.v_head_dim = 12;
  m.intermediate_size = 48;
  m.moe_intermediate_size = 16;
  m.n_routed_experts = 8;
  m.n_shared_experts = 1;
  m.num_experts_per_tok = 3;
  m.num_nextn_predict_layers = 1;
  return m;
}

}  // namespace strait::test
