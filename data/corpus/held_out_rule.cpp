#include "data/corpus/held_out_rule.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "core/errors.h"

namespace strait {
namespace {

constexpr uint64_t kSeed = 0x5712A17;  // any: so that these are not the hashes of inputs

uint64_t hash_of(std::string_view document) {
  return XXH3_64bits_withSeed(document.data(), document.size(), kSeed);
}

}  // namespace

HeldOutRule::HeldOutRule(double fraction) {
  STRAIT_CHECK(fraction > 0 && fraction < 1, std::to_string(fraction));
  limit_ = static_cast<uint64_t>(std::ldexp(fraction, 63)) * 2;
}

void HeldOutRule::see(std::string_view document) {
  const uint64_t hash = hash_of(document);
  lowest_ = std::min(lowest_, hash);
  highest_ = std::max(highest_, hash);
}

bool HeldOutRule::holds_out(std::string_view document) const {
  STRAIT_CHECK(can_split(), "two different documents");
  return hash_of(document) < std::clamp(limit_, lowest_ + 1, highest_);
}

}  // namespace strait
