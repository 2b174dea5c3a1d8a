#include "data/tokenizer/trainer.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "core/errors.h"
#include "data/tokenizer/merge_learner.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_model.h"
#include "data/tokenizer/utf8.h"
#include "data/tokenizer/word_counts.h"

namespace strait {
namespace {

constexpr std::array<const char*, 3> kSpecialTokens = {kBeginOfSentence, kEndOfSentence, kPadding};

// The split patterns of DeepSeek-V3's tokenizer.json, applied one after the other.
constexpr std::array<const char*, 3> kSplits = {
    R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

// Tokens and patterns hold no control characters.
std::string quoted(std::string_view text) {
  std::string json = "\"";
  for (const char byte : text) {
    if (byte == '"' || byte == '\\') json.push_back('\\');
    json.push_back(byte);
  }
  return json + "\"";
}

std::string added_tokens_json() {
  std::string json;
  for (size_t id = 0; id < kSpecialTokens.size(); ++id)
    json += fmt::format(
        "{}    {{\"id\": {}, \"content\": {}, \"single_word\": false, \"lstrip\": false, "
        "\"rstrip\": false, \"normalized\": false, \"special\": true}}",
        id == 0 ? "" : ",\n", id, quoted(kSpecialTokens[id]));
  return json;
}

std::string splits_json() {
  std::string json;
  for (const char* pattern : kSplits)
    json += fmt::format(
        "      {{\"type\": \"Split\", \"pattern\": {{\"Regex\": {}}}, \"behavior\": \"Isolated\", "
        "\"invert\": false}},\n",
        quoted(pattern));
  return json;
}

// `symbols` as bytes, in order of their ids; merges of two of them.
std::string tokenizer_json(const std::vector<std::string>& symbols,
                           const std::vector<MergeLearner::Merge>& merges) {
  std::string vocabulary, merge_list;
  for (size_t id = 0; id < kSpecialTokens.size(); ++id)
    vocabulary +=
        fmt::format("{}      {}: {}", id == 0 ? "" : ",\n", quoted(kSpecialTokens[id]), id);
  for (size_t index = 0; index < symbols.size(); ++index)
    vocabulary += fmt::format(",\n      {}: {}", quoted(byte_level_of_bytes(symbols[index])),
                              kSpecialTokens.size() + index);
  for (const MergeLearner::Merge& merge : merges)
    merge_list += fmt::format("{}\n      [{}, {}]", merge_list.empty() ? "" : ",",
                              quoted(byte_level_of_bytes(symbols[size_t(merge.left)])),
                              quoted(byte_level_of_bytes(symbols[size_t(merge.right)])));
  return fmt::format(
      R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
{}
  ],
  "normalizer": null,
  "pre_tokenizer": {{
    "type": "Sequence",
    "pretokenizers": [
{}      {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}}
    ]
  }},
  "post_processor": {{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}},
  "decoder": {{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {{
{}
    }},
    "merges": [{}
    ]
  }}
}}
)",
      added_tokens_json(), splits_json(), vocabulary, merge_list);
}

}  // namespace

struct TokenizerTrainer::State {
  TokenizerTrainerSettings settings;
  TokenizerModel model;  // without merges: for its added tokens and splits
  Matcher matcher;
  WordCounts counts;
};

TokenizerTrainer::TokenizerTrainer(const TokenizerTrainerSettings& settings) {
  if (settings.vocab_size < kMinVocabSize || settings.vocab_size > INT32_MAX)
    throw RecipeError(
        fmt::format("vocabulary size {}: expected {} (3 special tokens and 256 bytes) to {}",
                    settings.vocab_size, kMinVocabSize, INT32_MAX));
  state_ = std::make_unique<State>(
      State{.settings = settings,
            .model = read_tokenizer_model(tokenizer_json(MergeLearner({}).symbols(), {}),
                                          "the tokenizer to be trained", {}),
            .matcher = {},
            .counts = WordCounts(settings.max_distinct_words)});
}
TokenizerTrainer::~TokenizerTrainer() = default;
TokenizerTrainer::TokenizerTrainer(TokenizerTrainer&&) noexcept = default;
TokenizerTrainer& TokenizerTrainer::operator=(TokenizerTrainer&&) noexcept = default;

void TokenizerTrainer::add(std::string_view text) {
  require_utf8(text);
  State& state = *state_;
  state.model.raw_tokens.split(
      text,
      [&](std::string_view part) {
        state.model.pre_tokenizer.split(part, state.matcher,
                                        [&](std::string_view word) { state.counts.add(word); });
      },
      [](int32_t) {});
}

std::string TokenizerTrainer::train(const std::function<void(int64_t, int64_t)>& progress) {
  constexpr int64_t kProgressEvery = 64;
  MergeLearner learner(state_->counts.take());
  std::vector<MergeLearner::Merge> merges;
  const int64_t first = static_cast<int64_t>(learner.symbols().size());
  const int64_t wanted = state_->settings.vocab_size - static_cast<int64_t>(kSpecialTokens.size());
  while (static_cast<int64_t>(learner.symbols().size()) < wanted) {
    const int64_t learned = static_cast<int64_t>(learner.symbols().size()) - first;
    if (progress && learned % kProgressEvery == 0) progress(learned, wanted - first);
    const std::optional<MergeLearner::Merge> merge = learner.learn();
    if (!merge)
      throw DataError(fmt::format(
          "the text gives a vocabulary of {} at most, {} was asked for: give more text "
          "or ask for less",
          learner.symbols().size() + kSpecialTokens.size(), state_->settings.vocab_size));
    merges.push_back(*merge);
  }
  if (progress) progress(wanted - first, wanted - first);
  return tokenizer_json(learner.symbols(), merges);
}

std::string trained_tokenizer_config_json() {
  return fmt::format(
      R"({{
  "tokenizer_class": "PreTrainedTokenizerFast",
  "bos_token": {},
  "eos_token": {},
  "pad_token": {},
  "clean_up_tokenization_spaces": false
}}
)",
      quoted(kBeginOfSentence), quoted(kEndOfSentence), quoted(kPadding));
}

}  // namespace strait
