#include "data/corpus/permutation.h"

#include <bit>

#include "core/errors.h"

namespace strait {
namespace {

// The finaliser of SplitMix64. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
// Generators", 2014.
uint64_t scramble(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31);
}

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15U;

}  // namespace

uint64_t mix(uint64_t a, uint64_t b) { return scramble(scramble(a + kGolden) ^ (b + 1) * kGolden); }

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
      const uint64_t next = left ^ (scramble(key_ + round * kGolden + right) & mask);
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= size_);
  return static_cast<int64_t>(value);
}

}  // namespace strait
