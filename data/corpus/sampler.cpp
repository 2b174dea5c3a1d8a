#include "data/corpus/sampler.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"
#include "data/corpus/permutation.h"

namespace strait {

Sampler::Sampler(const Corpus& corpus, int64_t seq_len, int64_t extra, uint64_t seed)
    : corpus_(&corpus), seq_len_(seq_len), extra_(extra), num_windows_(0), seed_(seed) {
  STRAIT_CHECK(seq_len >= 1 && extra >= 0, fmt::format("seq_len {}, extra {}", seq_len, extra));
  num_windows_ = corpus.num_tokens() / seq_len;
  if (num_windows_ == 0)
    throw DataError(fmt::format("{}: the {} split has {} tokens, a sequence needs {}",
                                corpus.path(), name_of(corpus.split()), corpus.num_tokens(),
                                seq_len));
}

int64_t Sampler::window(int64_t index) const {
  STRAIT_CHECK(index >= 0, fmt::format("sample {}", index));
  const int64_t epoch = index / num_windows_;
  return Permutation(num_windows_, mix(seed_, static_cast<uint64_t>(epoch)))(index % num_windows_);
}

void Sampler::sample(int64_t index, std::span<int32_t> tokens) const {
  STRAIT_CHECK(static_cast<int64_t>(tokens.size()) == seq_len_ + extra_,
               fmt::format("room for {} tokens, not {}", tokens.size(), seq_len_ + extra_));
  const int64_t first = window(index) * seq_len_;
  const int64_t count = std::min(seq_len_ + extra_, corpus_->num_tokens() - first);
  corpus_->read_tokens(first, tokens.first(static_cast<size_t>(count)));
  std::ranges::fill(tokens.subspan(static_cast<size_t>(count)), -1);
}

}  // namespace strait
