#include "data/tokenizer/merge_learner.h"

#include <algorithm>
#include <numeric>

#include "data/tokenizer/utf8.h"

namespace strait {
namespace {

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
int32_t left_of(uint64_t pair) { return static_cast<int32_t>(pair >> 32); }
int32_t right_of(uint64_t pair) { return static_cast<int32_t>(pair & 0xFFFFFFFFU); }

}  // namespace

bool MergeLearner::worse(const Candidate& a, const Candidate& b) {
  return a.count != b.count ? a.count < b.count : a.pair > b.pair;
}

MergeLearner::MergeLearner(const std::vector<std::pair<std::string, int64_t>>& words) {
  std::array<int32_t, 256> bytes{}, symbol_of_byte{};
  std::iota(bytes.begin(), bytes.end(), 0);
  std::ranges::sort(bytes, {}, [](int32_t byte) { return byte_alphabet()[size_t(byte)]; });
  for (const int32_t byte : bytes) {
    symbol_of_byte[static_cast<size_t>(byte)] = static_cast<int32_t>(symbols_.size());
    symbols_.emplace_back(1, static_cast<char>(byte));
    symbol_of_.emplace(symbols_.back(), static_cast<int32_t>(symbols_.size()) - 1);
  }
  for (const auto& [word, count] : words) {
    const auto index = static_cast<int32_t>(words_.size());
    words_.push_back({places_.size(), static_cast<int32_t>(word.size()), count});
    for (size_t at = 0; at < word.size(); ++at) {
      places_.push_back(symbol_of_byte[static_cast<uint8_t>(word[at])]);
      if (at == 0) continue;
      Pair& pair = pairs_[pair_of(places_[places_.size() - 2], places_.back())];
      pair.count += count;
      if (pair.words.empty() || pair.words.back() != index) pair.words.push_back(index);
    }
  }
  for (const auto& [pair, about] : pairs_) heap_.push_back({about.count, pair});
  std::ranges::make_heap(heap_, worse);
}

void MergeLearner::push(uint64_t pair, int64_t count) {
  heap_.push_back({count, pair});
  std::ranges::push_heap(heap_, worse);
}

std::vector<int32_t> MergeLearner::word(size_t index) const {
  const int32_t* begin = places_.data() + words_[index].begin;
  return {begin, begin + words_[index].num_symbols};
}

std::optional<MergeLearner::Merge> MergeLearner::learn() {
  while (!heap_.empty()) {
    std::ranges::pop_heap(heap_, worse);
    const Candidate best = heap_.back();
    heap_.pop_back();
    Pair& pair = pairs_[best.pair];
    if (pair.rank >= 0 || pair.count == 0) continue;
    if (pair.count != best.count) {  // it has become rarer since
      push(best.pair, pair.count);
      continue;
    }
    const Merge merge{left_of(best.pair), right_of(best.pair),
                      symbol_of_
                          .try_emplace(symbols_[size_t(left_of(best.pair))] +
                                           symbols_[size_t(right_of(best.pair))],
                                       static_cast<int32_t>(symbols_.size()))
                          .first->second};
    if (static_cast<size_t>(merge.merged) == symbols_.size())
      symbols_.push_back(symbols_[size_t(merge.left)] + symbols_[size_t(merge.right)]);
    pair.merged = merge.merged;
    pair.rank = num_merges_++;
    apply(best.pair);
    return merge;
  }
  return std::nullopt;
}

// Merges the pair everywhere. Where two merges make one symbol ("--" "-" and "-" "--"), that may
// bring back pairs that are merges already. The encoder merges those at once, so it is done here
// too, the oldest first.
void MergeLearner::apply(uint64_t first) {
  std::vector<uint64_t> waiting = {first};
  const auto rank = [&](uint64_t pair) { return pairs_[pair].rank; };
  while (!waiting.empty()) {
    const auto oldest = std::ranges::min_element(waiting, {}, rank);
    const uint64_t pair = *oldest;
    waiting.erase(oldest);
    const int32_t merged = pairs_[pair].merged;
    const std::vector<int32_t> words = std::exchange(pairs_[pair].words, {});
    grown_.clear();
    for (const int32_t index : words) rewrite(index, pair, merged);
    std::ranges::sort(grown_);
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (const uint64_t grown : grown_) {
      const Pair& about = pairs_[grown];
      if (about.count == 0) continue;
      if (about.rank < 0)
        push(grown, about.count);
      else if (std::ranges::find(waiting, grown) == waiting.end())
        waiting.push_back(grown);
    }
  }
}

void MergeLearner::rewrite(int32_t index, uint64_t pair, int32_t merged) {
  Word& word = words_[static_cast<size_t>(index)];
  int32_t* const at = places_.data() + word.begin;
  const int32_t left = left_of(pair), right = right_of(pair), size = word.num_symbols;
  int32_t first = 0;
  while (first + 1 < size && (at[first] != left || at[first + 1] != right)) ++first;
  if (first + 1 >= size) return;  // gone since the word was listed
  // Pairs before `from` stay as they are.
  const int32_t from = std::max(0, first - 1);
  for (int32_t place = from; place + 1 < size; ++place)
    pairs_[pair_of(at[place], at[place + 1])].count -= word.count;
  int32_t to = first;
  for (int32_t place = first; place < size; ++to) {
    const bool match = place + 1 < size && at[place] == left && at[place + 1] == right;
    at[to] = match ? merged : at[place];
    place += match ? 2 : 1;
  }
  word.num_symbols = to;
  for (int32_t place = from; place + 1 < to; ++place) {
    const uint64_t made = pair_of(at[place], at[place + 1]);
    Pair& about = pairs_[made];
    about.count += word.count;
    if (at[place] != merged && at[place + 1] != merged) continue;
    grown_.push_back(made);
    if (about.words.empty() || about.words.back() != index) about.words.push_back(index);
  }
}

}  // namespace strait
