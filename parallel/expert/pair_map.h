// parallel/expert/pair_map.h: sorts (row, expert) pairs into the order the grouped GEMM reads.
#pragma once

#include <span>

#include "core/nn/layer.h"

namespace strait {

// Row u's pairs are [row_offsets[u], row_offsets[u + 1]) of `experts` (ids of this rank, ascending
// within a row).
struct RowPairs {
  std::vector<int32_t> row_offsets{0};
  std::vector<int32_t> experts;
  int64_t num_rows() const { return static_cast<int64_t>(row_offsets.size()) - 1; }
  int64_t num_pairs() const { return static_cast<int64_t>(experts.size()); }
};

struct SortedPairs {
  PairMapPtr map;
  Offsets offsets;
  Tensor arrival_of_pair;  // [R] i32: which pair of RowPairs stands at each sorted place
};

// `range`: the experts of this rank. On `meta`, only num_rows and num_pairs count: pairs are spread
// evenly.
SortedPairs sort_pairs(Context& ctx, const RowPairs& pairs, ExpertRange range);
SortedPairs expected_pairs(Context& ctx, int64_t num_rows, int64_t num_pairs, ExpertRange range);

// A tensor with the contents of `values`.
Tensor tensor_of(Context& ctx, std::span<const int32_t> values, Purpose purpose);
Tensor tensor_of(Context& ctx, std::span<const float> values, Purpose purpose);

}  // namespace strait
