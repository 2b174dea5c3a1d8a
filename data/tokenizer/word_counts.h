// data/tokenizer/word_counts.h: how often each word occurs, in bounded memory. One thread at a
// time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace strait {

class WordCounts {
 public:
  // Longer words are cut into pieces of at most this size, between code points.
  static constexpr size_t kMaxWordBytes = 128;

  // When there are more than `max_words` different words the rarer half is dropped (of equals, the
  // ones later in byte order), so the counts of rare words are lower bounds from then on. Memory:
  // about 100 bytes a word. REQUIRES: max_words >= 2.
  explicit WordCounts(int64_t max_words);

  void add(std::string_view word);

  int64_t num_words() const { return static_cast<int64_t>(counts_.size()); }
  // Most frequent first; of equals in byte order. Leaves this empty.
  std::vector<std::pair<std::string, int64_t>> take();

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  void add_piece(std::string_view piece);
  void drop_rare();

  size_t max_words_;
  std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> counts_;
};

}  // namespace strait
