// core/nn/model_settings.h: the sizes and choices that define a model, in the words of Hugging
// Face's config.json.
#pragma once

#include <cstdint>
#include <string>

#include "core/settings.h"

namespace strait {

// YaRN context extension, on the decoupled RoPE dimensions only. factor == 1: plain RoPE.
// Source: DeepSeek-V2 report, section 3.1.4.
struct RopeScaling {
  double factor = 1;
  int64_t original_max_position_embeddings = 4096;
  double beta_fast = 32, beta_slow = 1;
  double mscale = 1, mscale_all_dim = 0;
  bool operator==(const RopeScaling&) const = default;
};

struct ModelSettings {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t first_k_dense_replace = 0;  // leading layers with a dense MLP
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.006;  // standard deviation of every matrix at the start
  bool tie_word_embeddings = false;

  // Attention (MLA).
  int64_t num_attention_heads = 0;
  int64_t q_lora_rank = 0;  // 0: the query has no latent (V2-Lite)
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  int64_t max_position_embeddings = 4096;
  double rope_theta = 10000;
  RopeScaling rope_scaling;

  // MLPs.
  int64_t intermediate_size = 0;      // of a dense layer
  int64_t moe_intermediate_size = 0;  // of one expert
  int64_t n_routed_experts = 0;       // 0: every layer is dense
  int64_t n_shared_experts = 0;       // run as one MLP of n times the width
  int64_t num_experts_per_tok = 0;
  int64_t n_group = 1, topk_group = 1;
  std::string scoring_func = "sigmoid";  // or "softmax"
  std::string topk_method = "noaux_tc";  // selection bias; "greedy" or "group_limited_greedy": none
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1;

  // Objective-side parts that belong to the model.
  int64_t num_nextn_predict_layers = 0;  // MTP modules: 0 or 1

  bool operator==(const ModelSettings&) const = default;
};

const SettingsTable& table_of(const RopeScaling*);
const SettingsTable& table_of(const ModelSettings*);

}  // namespace strait
