#include "parallel/expert/pair_map.h"

#include <algorithm>
#include <cstring>

namespace strait {
namespace {

template <class T>
Tensor filled(Context& ctx, std::span<const T> values, Purpose purpose) {
  Tensor tensor = ctx.empty({static_cast<int64_t>(values.size())}, dtype_of<T>(), purpose);
  ctx.run({.flops = 0, .bytes = static_cast<double>(values.size_bytes())}, [&] {
    if (!values.empty()) std::memcpy(tensor.raw(), values.data(), values.size_bytes());
  });
  return tensor;
}

}  // namespace

Tensor tensor_of(Context& ctx, std::span<const int32_t> values, Purpose purpose) {
  return filled(ctx, values, purpose);
}
Tensor tensor_of(Context& ctx, std::span<const float> values, Purpose purpose) {
  return filled(ctx, values, purpose);
}

SortedPairs sort_pairs(Context& ctx, const RowPairs& pairs, std::span<const RowRange> rows,
                       const ExpertSlots& slots) {
  const ExpertRange range = slots.range;
  const int64_t first_slot = range.first - slots.before;
  const auto num_pairs = static_cast<size_t>(pairs.num_pairs());
  const auto num_experts = static_cast<size_t>(slots.count);
  auto offsets = std::make_shared<std::vector<int64_t>>(num_experts + 1, 0);
  for (const int32_t expert : pairs.experts) {
    STRAIT_CHECK(expert >= range.first && expert < range.last, "expert " + std::to_string(expert));
    ++(*offsets)[static_cast<size_t>(expert - first_slot) + 1];
  }
  for (size_t expert = 0; expert < num_experts; ++expert)
    (*offsets)[expert + 1] += (*offsets)[expert];

  std::vector<int64_t> next(offsets->begin(), offsets->end() - 1);
  std::vector<int32_t> row_of_pair(num_pairs), arrival(num_pairs), place(num_pairs);
  const auto sort_row = [&](int64_t row) {
    const auto begin = static_cast<size_t>(pairs.row_offsets[static_cast<size_t>(row)]);
    const auto end = static_cast<size_t>(pairs.row_offsets[static_cast<size_t>(row) + 1]);
    for (size_t pair = begin; pair < end; ++pair) {
      const auto at =
          static_cast<size_t>(next[static_cast<size_t>(pairs.experts[pair] - first_slot)]++);
      row_of_pair[at] = static_cast<int32_t>(row);
      arrival[at] = static_cast<int32_t>(pair);
      place[pair] = static_cast<int32_t>(at);
    }
  };
  for (const RowRange& range_of_rows : rows)
    for (int64_t row = range_of_rows.first; row < range_of_rows.last; ++row) sort_row(row);
  auto map = std::make_shared<PairMap>();
  map->row_of_pair = tensor_of(ctx, row_of_pair, Purpose::routed);
  map->pairs_of_row = {.offsets = tensor_of(ctx, pairs.row_offsets, Purpose::routed),
                       .experts = tensor_of(ctx, pairs.experts, Purpose::routed),
                       .rows = tensor_of(ctx, place, Purpose::routed)};
  map->range = range;
  return {map, offsets, tensor_of(ctx, arrival, Purpose::routed)};
}

SortedPairs expected_pairs(Context& ctx, int64_t num_rows, int64_t num_pairs,
                           const ExpertSlots& slots) {
  auto offsets = std::make_shared<std::vector<int64_t>>();
  for (int64_t expert = 0; expert <= slots.count; ++expert)
    offsets->push_back(num_pairs * expert / slots.count);
  const auto ints = [&](int64_t count) { return ctx.empty({count}, DType::i32, Purpose::routed); };
  auto map = std::make_shared<PairMap>();
  map->row_of_pair = ints(num_pairs);
  map->pairs_of_row = {
      .offsets = ints(num_rows + 1), .experts = ints(num_pairs), .rows = ints(num_pairs)};
  map->range = slots.range;
  return {map, offsets, ints(num_pairs)};
}

}  // namespace strait
