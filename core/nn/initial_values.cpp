// core/nn/initial_values.cpp: counter-based random numbers, so that any range of any tensor can be
// made anywhere.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/nn/model.h"
#include "core/scramble.h"

namespace strait {
namespace {

uint64_t hash(const std::string& text) {  // FNV-1a
  uint64_t value = 0xcbf29ce484222325u;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return value;
}

struct NormalPair {
  float first, second;
};

// Normal numbers 2 * pair and 2 * pair + 1 of a stream: Box-Muller on two 24-bit uniforms.
NormalPair normal_pair(uint64_t stream, uint64_t pair) {
  const uint64_t bits = splitmix(stream ^ splitmix(pair));
  const auto u = (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
  const auto v = static_cast<float>(bits & 0xffffffu) * 0x1p-24f;
  const float radius = std::sqrt(-2.0f * std::log(u));
  const float angle = 2.0f * std::numbers::pi_v<float> * v;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

// out[i] = scale * normal number first + i of the stream.
void fill_normal(uint64_t stream, int64_t first, float scale, std::span<float> out) {
  const auto end = first + static_cast<int64_t>(out.size());
  for (int64_t pair = first / 2; 2 * pair < end; ++pair) {
    const NormalPair normal = normal_pair(stream, static_cast<uint64_t>(pair));
    const int64_t at = 2 * pair - first;
    if (at >= 0) out[static_cast<size_t>(at)] = scale * normal.first;
    if (at + 1 < static_cast<int64_t>(out.size()))
      out[static_cast<size_t>(at + 1)] = scale * normal.second;
  }
}

}  // namespace

void initial_values(const Parameter& parameter, double initializer_range, uint64_t seed,
                    int64_t begin, std::span<float> out) {
  const auto end = begin + static_cast<int64_t>(out.size());
  if (parameter.role == Role::norm) {
    std::fill(out.begin(), out.end(), 1.0f);
    return;
  }
  const auto std_dev = static_cast<float>(initializer_range);
  for (const Part& part : parameter.parts) {
    const int64_t first = part.row_begin * parameter.num_cols();
    const int64_t last = first + part.num_rows * parameter.num_cols();
    const uint64_t stream = splitmix(seed) ^ hash(part.name);
    const int64_t from = std::max(begin, first), to = std::min(end, last);
    if (from < to)
      fill_normal(stream, from - first, std_dev,
                  out.subspan(static_cast<size_t>(from - begin), static_cast<size_t>(to - from)));
  }
}

}  // namespace strait
