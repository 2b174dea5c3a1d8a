// data/tokenizer/merge_learner.h: which pairs of symbols byte-pair encoding merges, learned from
// counted words.
//
// The most frequent pair of neighbours becomes a symbol, again and again; of equally frequent pairs
// the one whose left symbol is older, then whose right one is. The words are kept as the encoder
// would leave them with the merges learned so far, so a count is what the merge really saves.
// Deterministic: only the counts of the words matter. One thread at a time.
// Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units",
// 2016, algorithm 1.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace strait {

class MergeLearner {
 public:
  struct Merge {
    int32_t left, right, merged;  // symbols
  };

  // Symbols 0..255 are the bytes in the order of their characters in the byte-level alphabet, so
  // that ties fall as in the trainer of `tokenizers`. Memory: about 10 bytes for each byte of the
  // words.
  explicit MergeLearner(const std::vector<std::pair<std::string, int64_t>>& words);

  // Learns one merge and returns it, or nothing when no two symbols stand side by side any more.
  // Two merges may make the same symbol. Cost: the words that hold the pair.
  std::optional<Merge> learn();

  // The bytes of each symbol, in order of age.
  const std::vector<std::string>& symbols() const { return symbols_; }
  // The symbols of word `index` with the merges so far.
  std::vector<int32_t> word(size_t index) const;

 private:
  struct Word {
    size_t begin = 0;  // in places_
    int32_t num_symbols = 0;
    int64_t count = 0;
  };
  struct Pair {
    int64_t count = 0;
    int32_t merged = -1, rank = -1;  // once it is a merge
    std::vector<int32_t> words;      // that held it when they were listed, doubles included
  };
  struct Candidate {
    int64_t count;
    uint64_t pair;
  };
  struct PairHash {
    size_t operator()(uint64_t pair) const { return pair * 0x9E3779B97F4A7C15U >> 16; }
  };

  static bool worse(const Candidate& a, const Candidate& b);
  void push(uint64_t pair, int64_t count);
  void apply(uint64_t pair);
  void rewrite(int32_t index, uint64_t pair, int32_t merged);

  std::vector<std::string> symbols_;
  std::unordered_map<std::string, int32_t> symbol_of_;  // bytes -> symbol
  std::vector<int32_t> places_;                         // the symbols of all words
  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair, PairHash> pairs_;  // left << 32 | right
  std::vector<Candidate> heap_;
  std::vector<uint64_t> grown_;  // pairs that the merge at hand made more frequent
  int32_t num_merges_ = 0;
};

}  // namespace strait
