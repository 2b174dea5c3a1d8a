// data/huggingface/config_json_reader.cpp: config.json -> ModelSettings.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "core/errors.h"
#include "core/nn/model_rules.h"
#include "data/huggingface/config_json.h"

namespace strait::huggingface {
namespace {

using Json = nlohmann::json;

// Reads keys and collects what is wrong with them, so that one error says everything.
class Keys {
 public:
  Keys(const Json& json, std::string prefix, std::vector<std::string>& problems)
      : json_(json), prefix_(std::move(prefix)), problems_(problems) {}

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  void integer(const char* key, int64_t& value, bool required) {
    if (!present(key, required)) return;
    if (!json_[key].is_number_integer())
      unsupported(key, "it must be an integer");
    else
      value = json_[key].get<int64_t>();
  }
  void number(const char* key, double& value, bool required) {
    if (!present(key, required)) return;
    if (!json_[key].is_number())
      unsupported(key, "it must be a number");
    else
      value = json_[key].get<double>();
  }
  void boolean(const char* key, bool& value, bool required) {
    if (!present(key, required)) return;
    if (!json_[key].is_boolean())
      unsupported(key, "it must be true or false");
    else
      value = json_[key].get<bool>();
  }
  void word(const char* key, std::string& value) {
    if (!has(key)) return;
    if (!json_[key].is_string())
      unsupported(key, "it must be a word");
    else
      value = json_[key].get<std::string>();
  }
  // An absent or null key is fine; any other value than `only` is not.
  void must_be(const char* key, const Json& only) {
    if (has(key) && json_[key] != only) unsupported(key, "only " + only.dump() + " is");
  }
  void unsupported(const char* key, const std::string& why) {
    problems_.push_back(
        fmt::format("{}{}: {} is not supported ({})", prefix_, key, json_[key].dump(), why));
  }
  const Json& at(const char* key) const { return json_.at(key); }

 private:
  bool present(const char* key, bool required) {
    if (has(key)) return true;
    if (required) problems_.push_back(fmt::format("{}{} is missing", prefix_, key));
    return false;
  }

  const Json& json_;
  std::string prefix_;
  std::vector<std::string>& problems_;
};

Json parse(const std::string& text, const std::string& path) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) throw DataError(fmt::format("{}: is not a JSON object", path));
  return json;
}

// rope_theta and rope_scaling of transformers 4.x and DeepSeek's own code, or rope_parameters
// of 5.x.
void read_rope(const Json& json, ModelSettings& s, std::vector<std::string>& problems) {
  Keys keys(json, "", problems);
  keys.number("rope_theta", s.rope_theta, false);
  for (const char* section : {"rope_scaling", "rope_parameters"}) {
    if (!keys.has(section)) continue;
    if (!json[section].is_object()) {
      keys.unsupported(section, "it must be an object");
      continue;
    }
    Keys rope(json[section], std::string(section) + ".", problems);
    rope.number("rope_theta", s.rope_theta, false);
    const char* type_key = rope.has("rope_type") ? "rope_type" : "type";
    std::string type = "default";
    rope.word(type_key, type);
    if (type == "default") continue;
    if (type != "yarn") {
      rope.unsupported(type_key, "only yarn is");
      continue;
    }
    RopeScaling& scaling = s.rope_scaling;
    rope.number("factor", scaling.factor, true);
    rope.integer("original_max_position_embeddings", scaling.original_max_position_embeddings,
                 true);
    rope.number("beta_fast", scaling.beta_fast, false);
    rope.number("beta_slow", scaling.beta_slow, false);
    rope.number("mscale", scaling.mscale, false);
    rope.number("mscale_all_dim", scaling.mscale_all_dim, false);
    rope.must_be("truncate", true);
    double given = cosine_scale(scaling);
    rope.number("attention_factor", given, false);
    if (std::abs(given - cosine_scale(scaling)) > 1e-6)
      rope.unsupported("attention_factor",
                       fmt::format("mscale and mscale_all_dim give {}", cosine_scale(scaling)));
  }
}

void read_attention(Keys& keys, ModelSettings& s) {
  keys.integer("num_attention_heads", s.num_attention_heads, true);
  keys.integer("q_lora_rank", s.q_lora_rank, false);
  keys.integer("kv_lora_rank", s.kv_lora_rank, true);
  keys.integer("qk_nope_head_dim", s.qk_nope_head_dim, true);
  keys.integer("qk_rope_head_dim", s.qk_rope_head_dim, true);
  keys.integer("v_head_dim", s.v_head_dim, true);
  keys.integer("max_position_embeddings", s.max_position_embeddings, true);
  keys.must_be("num_key_value_heads", s.num_attention_heads);
  keys.must_be("attention_bias", false);
  keys.must_be("rope_interleave", true);
}

void read_experts(Keys& keys, ModelSettings& s, bool v3) {
  keys.integer("intermediate_size", s.intermediate_size, true);
  keys.integer("n_routed_experts", s.n_routed_experts, false);
  keys.must_be("mlp_bias", false);
  if (s.n_routed_experts == 0) return;
  keys.integer("first_k_dense_replace", s.first_k_dense_replace, true);
  keys.integer("moe_intermediate_size", s.moe_intermediate_size, true);
  keys.integer("n_shared_experts", s.n_shared_experts, false);
  keys.integer("num_experts_per_tok", s.num_experts_per_tok, true);
  keys.integer("n_group", s.n_group, false);
  keys.integer("topk_group", s.topk_group, false);
  keys.boolean("norm_topk_prob", s.norm_topk_prob, true);
  keys.number("routed_scaling_factor", s.routed_scaling_factor, true);
  keys.must_be("moe_layer_freq", 1);
  s.scoring_func = v3 ? "sigmoid" : "softmax";
  s.topk_method = v3 ? "noaux_tc" : "greedy";
  keys.must_be("scoring_func", s.scoring_func);
  keys.word("topk_method", s.topk_method);
  if (v3 ? s.topk_method != "noaux_tc"
         : s.topk_method != "greedy" && s.topk_method != "group_limited_greedy")
    keys.unsupported("topk_method", v3 ? "deepseek_v3 has noaux_tc"
                                       : "deepseek_v2 has greedy and group_limited_greedy");
  if (s.topk_method == "greedy") s.n_group = s.topk_group = 1;  // it knows no groups
  if (!v3 && s.norm_topk_prob)
    keys.unsupported("norm_topk_prob",
                     "transformers and DeepSeek's own code read it differently for deepseek_v2");
}

// Every number of the settings must be in the range its table gives.
void check_ranges(const SettingsRef& settings, const std::string& prefix,
                  std::vector<std::string>& problems) {
  for (const Field& field : *settings.table) {
    const FieldValue value = field.value(settings.settings);
    double number = 0;
    if (const auto* inner = std::get_if<SettingsRef>(&value)) {
      check_ranges(*inner, prefix + field.name + ".", problems);
      continue;
    }
    if (auto* const* integer = std::get_if<int64_t*>(&value))
      number = static_cast<double>(**integer);
    else if (auto* const* real = std::get_if<double*>(&value))
      number = **real;
    else
      continue;
    if (!field.range.contains(number))
      problems.push_back(fmt::format("{}{}: {} is out of range ({})", prefix, field.name, number,
                                     range_text(field.range)));
  }
}

void check_rules(const ModelSettings& settings, std::vector<std::string>& problems) {
  for (const BrokenRule& broken : broken_rules(settings))
    problems.push_back(broken.key + ": " + broken.text);
}

// Weights may be FP8 as published (fp8_blocks.h); the tensors themselves say which are.
void read_quantization(const Json& json, std::vector<std::string>& problems) {
  if (!json.contains("quantization_config") || json["quantization_config"].empty()) return;
  Keys top(json, "", problems);
  if (!json["quantization_config"].is_object())
    return top.unsupported("quantization_config", "it must be an object");
  Keys keys(json["quantization_config"], "quantization_config.", problems);
  if (!keys.has("quant_method"))
    problems.emplace_back("quantization_config.quant_method is missing");
  keys.must_be("quant_method", "fp8");
  keys.must_be("fmt", "e4m3");
  keys.must_be("weight_block_size", Json{128, 128});
}

}  // namespace

ModelSettings from_config_json(const std::string& text, const std::string& path) {
  const Json json = parse(text, path);
  const std::string type = json.contains("model_type") && json["model_type"].is_string()
                               ? json["model_type"].get<std::string>()
                               : "";
  if (type != "deepseek_v2" && type != "deepseek_v3")
    throw DataError(fmt::format(
        "{}: model_type: '{}' is not supported (deepseek_v2 and deepseek_v3 are)", path, type));
  const bool v3 = type == "deepseek_v3";
  std::vector<std::string> problems;
  Keys keys(json, "", problems);
  ModelSettings s;
  keys.integer("vocab_size", s.vocab_size, true);
  keys.integer("hidden_size", s.hidden_size, true);
  keys.integer("num_hidden_layers", s.num_hidden_layers, true);
  keys.number("rms_norm_eps", s.rms_norm_eps, false);
  keys.number("initializer_range", s.initializer_range, false);
  keys.boolean("tie_word_embeddings", s.tie_word_embeddings, false);
  keys.must_be("hidden_act", "silu");
  read_quantization(json, problems);
  read_attention(keys, s);
  read_rope(json, s, problems);
  read_experts(keys, s, v3);
  keys.integer(keys.has("num_mtp_layers") ? "num_mtp_layers" : "num_nextn_predict_layers",
               s.num_nextn_predict_layers, false);
  if (problems.empty()) check_ranges({&s, &table_of(&s)}, "", problems);
  if (problems.empty()) check_rules(s, problems);
  if (!problems.empty()) throw DataError(fmt::format("{}: {}", path, fmt::join(problems, "; ")));
  return s;
}

SpecialTokens special_tokens_from_config_json(const std::string& text, const std::string& path) {
  const Json json = parse(text, path);
  const auto id = [&](const char* key) -> int64_t {
    if (!json.contains(key) || json[key].is_null()) return -1;
    const Json& value = json[key].is_array() && !json[key].empty() ? json[key][0] : json[key];
    if (!value.is_number_integer() || value.get<int64_t>() < -1)
      throw DataError(fmt::format("{}: {}: {} is not a token id", path, key, json[key].dump()));
    return value.get<int64_t>();
  };
  return {.bos = id("bos_token_id"), .eos = id("eos_token_id"), .pad = id("pad_token_id")};
}

}  // namespace strait::huggingface
