// data/tokenizer/bpe.h: byte-pair encoding of one word, equal to the BPE model of `tokenizers`.
//
// A word is bytes; the vocabulary is in the byte-level alphabet. The pair of neighbours with the
// lowest rank is merged, the leftmost of equals first, until none is left. Source: Sennrich,
// Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016. Bpe is
// immutable and thread-safe; BpeScratch belongs to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace strait {

struct BpeSettings {
  std::string unk_token;  // empty: none
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;  // a word that is a token is that token
};

struct BpeScratch {
  struct Symbol {
    int32_t id, previous, next;  // places in `symbols`, -1 at the ends
    bool alive;
  };
  struct Candidate {
    int32_t rank, place, merged;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

class Bpe {
 public:
  using Vocabulary =
      std::unordered_map<std::string, int32_t>;  // token in the byte-level alphabet -> id

  // Merges in order of rank; of a pair that is there twice the later rank holds.
  // Throws DataError when a merge names a token, or makes one, that is not in the vocabulary, and
  // when unk_token is not. Messages begin with `name`.
  Bpe(const Vocabulary& vocabulary, const std::vector<std::pair<std::string, std::string>>& merges,
      BpeSettings settings, const std::string& name);

  // Appends the ids of `word`. Bytes that have no token become unk_token, or nothing if there is
  // none. Cost: O(n log n) in the bytes of the word.
  void encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const;

 private:
  struct Slot {
    uint64_t pair = kEmpty;  // left << 32 | right
    int32_t rank = 0, merged = 0;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};

  void insert(uint64_t pair, int32_t rank, int32_t merged);
  const Slot* find(int32_t left, int32_t right) const;
  void start(std::string_view word, BpeScratch& scratch) const;
  void consider(int32_t place, BpeScratch& scratch) const;

  BpeSettings settings_;
  int32_t unk_id_ = -1;
  std::array<int32_t, 256> id_of_byte_{};  // -1: none
  std::array<std::array<int32_t, 2>, 256>
      fallback_of_byte_{};   // ids of <0xAB> for the one or two bytes of the byte's
                             // character; -1: none
  std::vector<Slot> slots_;  // open addressing, a power of two
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>>
      whole_words_;  // bytes -> id, for ignore_merges
};

}  // namespace strait
