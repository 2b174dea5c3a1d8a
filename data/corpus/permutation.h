// data/corpus/permutation.h: a pseudo-random permutation of [0, size) that needs no table.
//
// A Feistel network of eight rounds on the smallest even number of bits that holds `size`; values
// outside [0, size) are walked on until they fall inside (at most 4 steps on average). Pure
// functions; thread-safe. Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (cycle
// walking), 2002.
#pragma once

#include <cstdint>

namespace strait {

class Permutation {
 public:
  Permutation(int64_t size, uint64_t key);  // REQUIRES: size >= 1
  int64_t size() const { return static_cast<int64_t>(size_); }
  int64_t operator()(
      int64_t index) const;  // REQUIRES: 0 <= index < size. One-to-one onto [0, size).

 private:
  uint64_t size_, key_;
  int half_bits_;
};

// A well-mixed 64-bit hash of (a, b): the key of epoch b under seed a, for example.
uint64_t mix(uint64_t a, uint64_t b);

}  // namespace strait
