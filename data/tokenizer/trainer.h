// data/tokenizer/trainer.h: learns a byte-level BPE tokenizer from text and writes it as a Hugging
// Face tokenizer.json, which Tokenizer, `tokenizers` and AutoTokenizer load.
//
// The file has the split patterns of DeepSeek-V3 (numbers in threes, runs of Chinese and Japanese,
// words with the space before them), no normaliser, and the ids: 0 to 2 the special tokens below,
// then the 256 bytes, then the merges in the order they were learned. The same texts in the same
// order give the same file, byte for byte. One thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace strait {

inline constexpr const char* kBeginOfSentence = "<｜begin▁of▁sentence｜>";  // id 0
inline constexpr const char* kEndOfSentence = "<｜end▁of▁sentence｜>";      // id 1
inline constexpr const char* kPadding = "<｜▁pad▁｜>";                      // id 2
inline constexpr int64_t kMinVocabSize = 3 + 256;

struct TokenizerTrainerSettings {
  int64_t vocab_size = 8192;  // special tokens and bytes included
  // Beyond this many different words the rarer half is forgotten (data/tokenizer/word_counts.h).
  // It bounds memory to about 300 bytes a word, and does not matter below some 300 MB of text.
  int64_t max_distinct_words = int64_t{1} << 20;
};

class TokenizerTrainer {
 public:
  // Throws RecipeError when vocab_size is below kMinVocabSize or beyond what an int32 counts.
  explicit TokenizerTrainer(const TokenizerTrainerSettings& settings);
  ~TokenizerTrainer();
  TokenizerTrainer(TokenizerTrainer&&) noexcept;
  TokenizerTrainer& operator=(TokenizerTrainer&&) noexcept;

  // Counts the words of one text; special tokens in it are passed over. Throws DataError when it is
  // not UTF-8. Cost: a few 10 ns a byte.
  void add(std::string_view text);

  // Learns the merges and returns the tokenizer.json; leaves the trainer without words. Merges are
  // learned until the vocabulary is full, rare pairs included. Throws DataError, saying how many
  // tokens there can be, when the text has too few. Calls progress(merges learned, merges wanted)
  // now and then; it may throw to stop.
  std::string train(const std::function<void(int64_t, int64_t)>& progress = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The tokenizer_config.json that goes with every trained tokenizer.json: AutoTokenizer's class and
// which special tokens are which.
std::string trained_tokenizer_config_json();

}  // namespace strait
