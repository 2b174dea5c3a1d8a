// data/corpus/sampler.h: which tokens training sample i is made of: a pure function of (seed, i).
//
// The split is one stream of tokens (documents end to end, each with its EOS), cut into windows of
// seq_len tokens. Epoch e = i / windows_per_epoch() visits every window once, in an order of its
// own (a pseudo-random permutation keyed by the seed and e). The number of ranks plays no part, so
// a cursor is one integer: the next i. The last num_tokens() % seq_len tokens start no window; they
// serve as targets of the last one. Thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "data/corpus/corpus.h"

namespace strait {

class Sampler {
 public:
  // `extra`: tokens after the window that targets need: 1 for next-token prediction, plus 1 for
  // each multi-token-prediction depth. `corpus` must outlive the sampler. Throws DataError when the
  // split has fewer than seq_len tokens. REQUIRES: seq_len >= 1, extra >= 0.
  Sampler(const Corpus& corpus, int64_t seq_len, int64_t extra, uint64_t seed);

  int64_t windows_per_epoch() const { return num_windows_; }
  int64_t seq_len() const { return seq_len_; }
  int64_t extra() const { return extra_; }

  // The window of sample `index` (>= 0, in any epoch): its tokens are [window * seq_len, (window +
  // 1) * seq_len).
  int64_t window(int64_t index) const;

  // Fills `tokens` with the window and the `extra` tokens after it. The first seq_len are always
  // ids; beyond the end of the stream there is -1 (no target). REQUIRES: tokens.size() == seq_len +
  // extra. Cost: one read of the corpus (a few 10 us when the file is cached).
  void sample(int64_t index, std::span<int32_t> tokens) const;

 private:
  const Corpus* corpus_;
  int64_t seq_len_, extra_, num_windows_;
  uint64_t seed_;
};

}  // namespace strait
