#include "data/corpus/held_out_rule.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/errors.h"

namespace strait {
namespace {

constexpr uint64_t kSeed = 0x5712A17;  // any: so that these are not the hashes of inputs
constexpr int kStepBits = 16;

uint64_t hash_of(std::string_view document) {
  return XXH3_64bits_withSeed(document.data(), document.size(), kSeed);
}

}  // namespace

HeldOutRule::HeldOutRule(double fraction) : fraction_(fraction), bytes_(size_t{1} << kStepBits) {
  STRAIT_CHECK(fraction > 0 && fraction < 1, std::to_string(fraction));
}

void HeldOutRule::see(std::string_view document) {
  const uint64_t hash = hash_of(document);
  bytes_[hash >> (64 - kStepBits)] += static_cast<int64_t>(document.size());
  lowest_ = std::min(lowest_, hash);
  highest_ = std::max(highest_, hash);
}

bool HeldOutRule::decide() {
  if (lowest_ >= highest_) return false;
  const auto wanted = static_cast<int64_t>(std::llround(
      fraction_ * static_cast<double>(std::accumulate(bytes_.begin(), bytes_.end(), int64_t{0}))));
  uint64_t steps = 0;  // to hold out
  for (int64_t held = 0; held < wanted && steps + 1 < bytes_.size(); held += bytes_[steps++])
    if (held + bytes_[steps] - wanted > wanted - held) break;  // this one would lead further away
  limit_ = std::clamp(steps << (64 - kStepBits), lowest_ + 1, highest_);
  return true;
}

bool HeldOutRule::holds_out(std::string_view document) const {
  STRAIT_CHECK(limit_ > 0, "decide()");
  return hash_of(document) < limit_;
}

}  // namespace strait
