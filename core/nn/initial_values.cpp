// core/nn/initial_values.cpp: counter-based random numbers, so that any range of any tensor can be
// made anywhere.
#include <algorithm>

#include "core/nn/model.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/normal.h"
#include "core/scramble.h"

namespace strait {
namespace {

uint64_t hash(const std::string& text) {  // FNV-1a
  uint64_t value = 0xcbf29ce484222325u;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return value;
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
    if (from < to) STRAIT_CPU_KERNEL(fill_normal)
    (stream, from - first, std_dev, out.data() + (from - begin), to - from);
  }
}

}  // namespace strait
