// data/huggingface/tokenizer_files.h: what stands beside tokenizer.json so that AutoTokenizer loads
// it.
#pragma once

#include <cstdint>
#include <string>

#include "data/huggingface/config_json.h"

namespace strait::huggingface {

// Writes the text `tokenizer_json` as tokenizer.json into `folder`, with the tokenizer_config.json
// and special_tokens_map.json that go with it. Throws DataError when it is not a tokenizer.json, or
// has no added token of one of the ids.
void write_tokenizer_files(const std::string& folder, const std::string& tokenizer_json,
                           const SpecialTokens& tokens, int64_t model_max_length);

}  // namespace strait::huggingface
