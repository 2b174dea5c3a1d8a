// core/ops/cpu/kernels/permute.h: sums of rows in a fixed binary tree.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"

namespace strait::cpu {
struct TreeSum {
  Rows rows, out;
  const int *offsets = nullptr, *experts = nullptr, *entry_rows = nullptr;
  long first = 0, last = 0;  // of the expert ids
  bool accumulate = false;
};
// Columns that are summed at a time.
inline constexpr long kTreeColumns = 64;
}  // namespace strait::cpu

// Output rows [begin, end). scratch: kTreeColumns floats, and adds: two ints, per entry of the
// output row that has the most.
STRAIT_CPU_DECLARE(void tree_sum(const TreeSum& args, long cols, long begin, long end,
                                 float* scratch, int* adds))
