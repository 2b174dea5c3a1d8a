// core/ops/cuda/kernels/column_tree.cuh: the fixed tree of core/ops/cpu/kernels/column_sums.h, by
// one thread for a column.
#pragma once

#include <cstdint>

namespace strait::cuda {

constexpr int kTreeLevels = 20;  // 2^20 terms at most

// (0 + 1) + (2 + 3) and so on of term(0) .. term(count - 1). REQUIRES: count > 0.
// Sums of 2^level terms wait at their level until another is there, as digits of a counter do.
template <class Term>
__device__ float tree_over(int64_t count, Term term) {
  float waiting[kTreeLevels];
  for (int64_t i = 0; i < count; i++) {
    float sum = term(i);
    bool placed = false;
#pragma unroll
    for (int level = 0; level < kTreeLevels; level++) {
      const bool full = (i >> level & 1) != 0;
      if (!placed && full) sum = waiting[level] + sum;
      if (!placed && !full) waiting[level] = sum, placed = true;
    }
  }
  float sum = 0;
  bool any = false;
#pragma unroll
  for (int level = 0; level < kTreeLevels; level++) {
    if ((count >> level & 1) == 0) continue;
    sum = any ? waiting[level] + sum : waiting[level];
    any = true;
  }
  return sum;
}

}  // namespace strait::cuda
