#include "data/tokenizer/word_counts.h"

#include <algorithm>

#include "core/errors.h"

namespace strait {
namespace {

using WordCount = std::pair<std::string, int64_t>;

bool before(const WordCount& a, const WordCount& b) {
  return a.second != b.second ? a.second > b.second : a.first < b.first;
}

}  // namespace

WordCounts::WordCounts(int64_t max_words) : max_words_(static_cast<size_t>(max_words)) {
  STRAIT_CHECK(max_words >= 2, std::to_string(max_words));
}

void WordCounts::add(std::string_view word) {
  while (word.size() > kMaxWordBytes) {
    size_t cut = kMaxWordBytes;
    while (cut > 1 && (static_cast<uint8_t>(word[cut]) & 0xC0) == 0x80) --cut;
    add_piece(word.substr(0, cut));
    word.remove_prefix(cut);
  }
  add_piece(word);
}

void WordCounts::add_piece(std::string_view piece) {
  if (const auto at = counts_.find(piece); at != counts_.end()) {
    ++at->second;
    return;
  }
  counts_.emplace(piece, 1);
  if (counts_.size() > max_words_) drop_rare();
}

void WordCounts::drop_rare() {
  std::vector<WordCount> words = take();
  words.resize(max_words_ / 2);
  for (WordCount& word : words) counts_.insert(std::move(word));
}

std::vector<WordCount> WordCounts::take() {
  std::vector<WordCount> words;
  words.reserve(counts_.size());
  while (!counts_.empty()) {
    auto node = counts_.extract(counts_.begin());
    words.emplace_back(std::move(node.key()), node.mapped());
  }
  std::ranges::sort(words, before);
  return words;
}

}  // namespace strait
