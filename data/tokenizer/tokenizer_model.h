// data/tokenizer/tokenizer_model.h: what a tokenizer.json says, read and checked; inside this
// folder only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pre_tokenizer.h"

namespace strait {

struct TokenizerModel {
  std::string json, xxh3;
  Normalizer normalizer;
  AddedTokenFinder raw_tokens;         // looked for in the text as it is
  AddedTokenFinder normalized_tokens;  // and in the normalised text
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  std::vector<int32_t> prefix, suffix;  // of the post-processor's template
  std::unordered_map<std::string, int32_t> ids;
  std::vector<std::string> tokens;  // by id
  std::vector<std::string> bytes;   // by id: what it decodes to
  std::vector<bool> special;        // by id
  std::optional<int32_t> eos_id, bos_id;
};

// Throws DataError; messages begin with `name`.
TokenizerModel read_tokenizer_model(const std::string& json, const std::string& name,
                                    const std::string& config_json);

}  // namespace strait
