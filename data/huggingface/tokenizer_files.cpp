#include "data/huggingface/tokenizer_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "data/huggingface/files.h"

namespace strait::huggingface {
namespace {

using Json = nlohmann::ordered_json;

std::string content_of(const Json& tokenizer, int64_t id) {
  for (const Json& token : tokenizer.value("added_tokens", Json::array()))
    if (token.value("id", int64_t{-1}) == id) return token.value("content", "");
  throw DataError(fmt::format("tokenizer.json: has no added token with id {}", id));
}

}  // namespace

void write_tokenizer_files(const std::string& folder, const std::string& tokenizer_json,
                           const SpecialTokens& tokens, int64_t model_max_length) {
  const Json tokenizer = Json::parse(tokenizer_json, nullptr, false);
  if (!tokenizer.is_object() || !tokenizer.contains("model"))
    throw DataError("the tokenizer to be exported is not a tokenizer.json");
  Json config = Json::object(), special = Json::object();
  const auto add = [&](const char* key, int64_t id) {
    if (id < 0) return;
    special[key] = content_of(tokenizer, id);
    config[key] = special[key];
  };
  add("bos_token", tokens.bos);
  add("eos_token", tokens.eos);
  add("pad_token", tokens.pad);
  Json decoder = Json::object();
  for (const Json& token : tokenizer.value("added_tokens", Json::array())) {
    Json fields = token;
    fields.erase("id");
    decoder[std::to_string(token.at("id").get<int64_t>())] = fields;
  }
  config["added_tokens_decoder"] = decoder;
  config["clean_up_tokenization_spaces"] = false;
  config["model_max_length"] = model_max_length;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  write_text(folder + "/tokenizer.json", tokenizer_json);
  write_text(folder + "/tokenizer_config.json", config.dump(2) + "\n");
  write_text(folder + "/special_tokens_map.json", special.dump(2) + "\n");
}

}  // namespace strait::huggingface
