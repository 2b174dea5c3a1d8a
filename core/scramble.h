// core/scramble.h: counter-based random bits: a number that looks random, from a counter and a key
// alone. Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014
// (SplitMix64).
#pragma once

#include <cstdint>

namespace strait {

inline constexpr uint64_t kGoldenRatio64 = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio, odd

// SplitMix64's finaliser: a bijection of 64-bit words whose output bits look independent. 0 stays
// 0.
constexpr uint64_t scramble(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// SplitMix64's output for the state x.
constexpr uint64_t splitmix(uint64_t x) { return scramble(x + kGoldenRatio64); }

}  // namespace strait
