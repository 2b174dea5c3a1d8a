// parallel/expert/pair_map.h: sorts (row, expert) pairs into the order the grouped GEMM reads.
#pragma once

#include <span>

#include "core/nn/layer.h"
#include "parallel/expert/row_plan.h"

namespace strait {

struct SortedPairs {
  PairMapPtr map;
  Offsets offsets;
  Tensor arrival_of_pair;  // [R] i32: which pair of RowPairs stands at each sorted place
};

// Experts of `range` get rows: those behind the first `before` of this rank's `count`.
struct ExpertSlots {
  ExpertRange range{};
  int64_t before = 0, count = 0;
};

// The pairs of an expert stand in the order in which `rows` names their rows, each once. On `meta`,
// only num_rows and num_pairs count: pairs are spread evenly over all experts of the rank.
SortedPairs sort_pairs(Context& ctx, const RowPairs& pairs, std::span<const RowRange> rows,
                       const ExpertSlots& slots);
SortedPairs expected_pairs(Context& ctx, int64_t num_rows, int64_t num_pairs,
                           const ExpertSlots& slots);

// A tensor with the contents of `values`.
Tensor tensor_of(Context& ctx, std::span<const int32_t> values, Purpose purpose);
Tensor tensor_of(Context& ctx, std::span<const float> values, Purpose purpose);

}  // namespace strait
