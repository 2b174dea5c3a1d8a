// parallel/expert/row_plan.h: which rows are made of which, when rows go to the ranks or nodes that
// hold their experts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ops/permute.h"
#include "parallel/expert/expert_parts.h"

namespace strait {

// Row u's (row, expert) pairs are [row_offsets[u], row_offsets[u + 1]) of `experts`, which ascend
// within a row.
struct RowPairs {
  std::vector<int32_t> row_offsets{0};
  std::vector<int32_t> experts;
  int64_t num_rows() const { return static_cast<int64_t>(row_offsets.size()) - 1; }
  int64_t num_pairs() const { return static_cast<int64_t>(experts.size()); }
};

struct RowRange {
  int64_t first = 0, last = 0;  // [first, last)
};

// A source row becomes one row for each part of the experts in which it has any. The new rows are
// ordered by part, then by stretch of source rows, then by source row; their pairs by row, then by
// expert.
struct RowPlan {
  ExpertParts parts{};
  size_t num_stretches = 1;
  std::vector<int64_t>
      rows_PS{};  // new rows of each part and stretch, stretches of a part together
  std::vector<int64_t> pairs_P{};
  RowPairs pairs{};                    // of the new rows
  std::vector<int32_t> source_row{};   // of each new row
  std::vector<int32_t> source_pair{};  // of each new pair
  // Of each source row, its new rows, each entered as the first expert of its part's wave.
  std::vector<int32_t> sum_offsets{}, sum_experts{}, sum_rows{};

  int64_t num_rows() const { return pairs.num_rows(); }
  int64_t num_pairs() const { return pairs.num_pairs(); }
  TreeEntrySpans sums() const { return {sum_offsets, sum_experts, sum_rows}; }
};

// REQUIRES: `stretches` hold every source row once; `parts` has the experts of all pairs.
RowPlan plan_rows(const RowPairs& source, std::span<const RowRange> stretches,
                  const ExpertParts& parts);

// `count` rows in `num_stretches` stretches, as equal as can be.
std::vector<RowRange> equal_stretches(int64_t count, int num_stretches);

}  // namespace strait
