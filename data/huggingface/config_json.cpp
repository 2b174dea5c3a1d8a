#include "data/huggingface/config_json.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/errors.h"

namespace strait::huggingface {
namespace {

using Json = nlohmann::ordered_json;

bool is_v3(const ModelSettings& settings) {
  return settings.scoring_func == "sigmoid" || settings.n_routed_experts == 0;
}

double yarn_scale(double factor, double weight) {  // DeepSeek's yarn_get_mscale
  return factor <= 1 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

Json rope_scaling_of(const RopeScaling& rope) {
  if (rope.factor == 1) return nullptr;
  Json json = {{"type", "yarn"},
               {"rope_type", "yarn"},
               {"factor", rope.factor},
               {"original_max_position_embeddings", rope.original_max_position_embeddings},
               {"beta_fast", rope.beta_fast},
               {"beta_slow", rope.beta_slow},
               {"mscale", rope.mscale},
               {"mscale_all_dim", rope.mscale_all_dim}};
  // `transformers` takes a zero among these two as "not given" and then scales cosine and sine as
  // if mscale were 1 and mscale_all_dim 0: only an explicit factor says otherwise.
  const double scale = cosine_scale(rope);
  const bool given = rope.mscale != 0 && rope.mscale_all_dim != 0;
  if (!given && scale != yarn_scale(rope.factor, 1)) json["attention_factor"] = scale;
  return json;
}

Json id_or_null(int64_t id) { return id < 0 ? Json(nullptr) : Json(id); }

}  // namespace

double cosine_scale(const RopeScaling& rope) {
  return yarn_scale(rope.factor, rope.mscale) / yarn_scale(rope.factor, rope.mscale_all_dim);
}

std::string why_not_exportable(const ModelSettings& s) {
  const std::string none = "no model class of transformers computes ";
  if (s.n_routed_experts == 0) return {};
  if (s.scoring_func == "sigmoid") {
    if (s.topk_method == "group_limited_greedy" && s.topk_group < s.n_group)
      return none + "scoring_func: sigmoid with topk_method: group_limited_greedy; use noaux_tc";
    if (s.topk_method == "noaux_tc" && s.n_group > 1 && s.n_routed_experts / s.n_group < 2)
      return none + fmt::format("topk_method: noaux_tc with n_group: {} of a single expert each",
                                s.n_group);
    return {};
  }
  if (s.topk_method == "noaux_tc")
    return none +
           "scoring_func: softmax with topk_method: noaux_tc; use greedy or group_limited_greedy";
  if (s.norm_topk_prob) return none + "scoring_func: softmax with norm_topk_prob: true";
  if (s.hidden_size % s.num_attention_heads != 0)
    return none + fmt::format(
                      "scoring_func: softmax with hidden_size: {} that is not a multiple of "
                      "num_attention_heads: {}",
                      s.hidden_size, s.num_attention_heads);
  return {};
}

void require_exportable(const ModelSettings& settings) {
  if (const std::string why = why_not_exportable(settings); !why.empty())
    throw RecipeError("[export] " + why);
}

std::string to_config_json(const ModelSettings& s, const SpecialTokens& tokens, DType dtype,
                           bool fp8) {
  require_exportable(s);
  STRAIT_CHECK(dtype == DType::f32 || dtype == DType::bf16, name_of(dtype));
  const bool v3 = is_v3(s);
  const bool dense = s.n_routed_experts == 0;
  // greedy selection is noaux_tc without groups and with biases of zero
  const bool grouped = s.topk_method != "greedy";
  Json json;
  json["architectures"] = {v3 ? "DeepseekV3ForCausalLM" : "DeepseekV2ForCausalLM"};
  json["model_type"] = v3 ? "deepseek_v3" : "deepseek_v2";
  json["vocab_size"] = s.vocab_size;
  json["hidden_size"] = s.hidden_size;
  json["num_hidden_layers"] = s.num_hidden_layers;
  json["hidden_act"] = "silu";
  json["rms_norm_eps"] = s.rms_norm_eps;
  json["initializer_range"] = s.initializer_range;
  json["tie_word_embeddings"] = s.tie_word_embeddings;
  json["use_cache"] = true;
  json["torch_dtype"] = dtype == DType::f32 ? "float32" : "bfloat16";
  json["bos_token_id"] = id_or_null(tokens.bos);
  json["eos_token_id"] = id_or_null(tokens.eos);
  json["pad_token_id"] = id_or_null(tokens.pad);

  json["num_attention_heads"] = s.num_attention_heads;
  json["num_key_value_heads"] = s.num_attention_heads;
  json["q_lora_rank"] = s.q_lora_rank == 0 ? Json(nullptr) : Json(s.q_lora_rank);
  json["kv_lora_rank"] = s.kv_lora_rank;
  json["qk_nope_head_dim"] = s.qk_nope_head_dim;
  json["qk_rope_head_dim"] = s.qk_rope_head_dim;
  json["v_head_dim"] = s.v_head_dim;
  json["attention_bias"] = false;
  json["attention_dropout"] = 0.0;
  json["max_position_embeddings"] = s.max_position_embeddings;
  json["rope_theta"] = s.rope_theta;
  json["rope_scaling"] = rope_scaling_of(s.rope_scaling);
  if (v3) json["rope_interleave"] = true;

  json["intermediate_size"] = s.intermediate_size;
  json["moe_intermediate_size"] = s.moe_intermediate_size;
  json["first_k_dense_replace"] = dense ? s.num_hidden_layers : s.first_k_dense_replace;
  json["moe_layer_freq"] = 1;
  json["n_routed_experts"] = s.n_routed_experts;
  json["n_shared_experts"] = s.n_shared_experts;
  json["num_experts_per_tok"] = s.num_experts_per_tok;
  json["n_group"] = grouped ? s.n_group : 1;
  json["topk_group"] = grouped ? s.topk_group : 1;
  json["scoring_func"] = v3 ? "sigmoid" : "softmax";
  json["topk_method"] = v3 ? "noaux_tc" : s.topk_method;
  json["norm_topk_prob"] = s.norm_topk_prob;
  json["routed_scaling_factor"] = s.routed_scaling_factor;
  json["num_nextn_predict_layers"] = s.num_nextn_predict_layers;
  if (fp8)
    json["quantization_config"] = {{"activation_scheme", "dynamic"},
                                   {"fmt", "e4m3"},
                                   {"quant_method", "fp8"},
                                   {"weight_block_size", {128, 128}}};
  return json.dump(2) + "\n";
}

}  // namespace strait::huggingface
