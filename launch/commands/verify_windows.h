// launch/commands/verify_windows.h: the token windows of a verification's steps.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/corpus/corpus.h"
#include "data/corpus/sampler.h"
#include "recipes/recipe.h"

namespace strait {

// Step s takes samples [s * global_batch, (s + 1) * global_batch), as training does; from the
// recipe's corpus where it exists, else tokens drawn from the seed, rare and frequent ones. For one
// rank, which gives them to the others.
class VerifyWindows {
 public:
  explicit VerifyWindows(const Recipe& recipe);  // throws DataError as Corpus and Sampler

  std::string source() const;  // "corpus corpus/", "made-up tokens"
  std::vector<int32_t> of_step(int64_t step) const;

 private:
  const Recipe& recipe_;
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<Sampler> sampler_;
  int64_t window_tokens_;
};

}  // namespace strait
