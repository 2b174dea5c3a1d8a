#include "launch/commands/verify_windows.h"

#include <fmt/format.h>

#include <filesystem>

#include "core/errors.h"
#include "data/corpus/permutation.h"

namespace strait {

VerifyWindows::VerifyWindows(const Recipe& recipe)
    : recipe_(recipe),
      window_tokens_(recipe.train.sequence_length + 1 + recipe.model.num_nextn_predict_layers) {
  const std::string& path = recipe.data.corpus;
  if (path.empty() || !std::filesystem::exists(path)) return;
  corpus_ = std::make_unique<Corpus>(path);
  if (corpus_->vocab_size() > recipe.model.vocab_size)
    throw DataError(fmt::format("{}: its tokenizer has {} tokens, but model.vocab_size is {} ({})",
                                corpus_->path(), corpus_->vocab_size(), recipe.model.vocab_size,
                                recipe.places.of("model.vocab_size")));
  sampler_ = std::make_unique<Sampler>(*corpus_, recipe.train.sequence_length,
                                       window_tokens_ - recipe.train.sequence_length,
                                       static_cast<uint64_t>(recipe.train.seed));
}

std::string VerifyWindows::source() const {
  return corpus_ ? "corpus " + recipe_.data.corpus : std::string("made-up tokens");
}

std::vector<int32_t> VerifyWindows::of_step(int64_t step) const {
  const int64_t count = recipe_.train.global_batch, vocabulary = recipe_.model.vocab_size;
  std::vector<int32_t> windows(static_cast<size_t>(count * window_tokens_));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = step * count + i;
    const auto window = std::span(windows).subspan(static_cast<size_t>(i * window_tokens_),
                                                   static_cast<size_t>(window_tokens_));
    if (sampler_) {
      sampler_->sample(sample, window);
      continue;
    }
    const uint64_t key =
        mix(static_cast<uint64_t>(recipe_.train.seed), static_cast<uint64_t>(sample));
    for (size_t place = 0; place < window.size(); ++place) {
      const double uniform = static_cast<double>(mix(key, place) >> 11) * 0x1p-53;
      window[place] =
          static_cast<int32_t>(static_cast<double>(vocabulary) * uniform * uniform * uniform);
    }
  }
  return windows;
}

}  // namespace strait
