// data/huggingface/config_json.h: a model's settings as the config.json that `transformers` reads,
// and back.
//
// sigmoid scores: DeepseekV3ForCausalLM; softmax: DeepseekV2ForCausalLM. The text loads in
// transformers 4.5x and 5.x.
#pragma once

#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/nn/model_settings.h"

namespace strait::huggingface {

// Ids of a tokenizer's special tokens; -1: it has none.
struct SpecialTokens {
  int64_t bos = -1, eos = -1, pad = -1;
};

// Why no class of `transformers` computes this model, naming key and value; empty when one does.
// Known: softmax scores with norm_topk_prob or with noaux_tc, sigmoid scores with
// group_limited_greedy, noaux_tc with groups of a single expert, and for softmax hidden_size not a
// multiple of num_attention_heads.
std::string why_not_exportable(const ModelSettings& settings);
void require_exportable(const ModelSettings& settings);  // throws RecipeError with the reason

// The text of config.json; `dtype` is that of the weights beside it (f32 or bf16), but for those in
// FP8 (fp8_blocks.h) where `fp8`. Calls require_exportable.
std::string to_config_json(const ModelSettings& settings, const SpecialTokens& tokens, DType dtype,
                           bool fp8 = false);

// YaRN's factor on cosine and sine. Source: DeepSeek-V3's published modeling code.
double cosine_scale(const RopeScaling& rope);

// The settings a config.json stands for. Throws DataError naming the file and every key whose value
// Strait does not support or that is missing. Keys that do not change the model (cache, dropout,
// token ids, ...) are ignored.
ModelSettings from_config_json(const std::string& text, const std::string& path);
SpecialTokens special_tokens_from_config_json(const std::string& text, const std::string& path);

}  // namespace strait::huggingface
