#include "data/corpus/permutation.h"

#include <bit>

#include "core/errors.h"
#include "core/scramble.h"

namespace strait {
uint64_t mix(uint64_t a, uint64_t b) {
  return scramble(scramble(a + kGoldenRatio64) ^ (b + 1) * kGoldenRatio64);
}

Permutation::Permutation(int64_t size, uint64_t key)
    : size_(static_cast<uint64_t>(size)),
      key_(key),
      half_bits_((std::bit_width(static_cast<uint64_t>(size) - 1) + 1) / 2) {
  STRAIT_CHECK(size >= 1, "a permutation of nothing");
}

int64_t Permutation::operator()(int64_t index) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t value = static_cast<uint64_t>(index);
  do {
    uint64_t left = value >> half_bits_, right = value & mask;
    for (uint64_t round = 0; round < 8; ++round) {
      const uint64_t next = left ^ (scramble(key_ + round * kGoldenRatio64 + right) & mask);
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= size_);
  return static_cast<int64_t>(value);
}

}  // namespace strait
