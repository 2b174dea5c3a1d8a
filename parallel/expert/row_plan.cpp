#include "parallel/expert/row_plan.h"

#include <numeric>

#include "core/errors.h"

namespace strait {
namespace {

// Calls visit(pair, part, is_first) for the pairs of a source row; is_first: of its part.
template <class Visit>
void for_pairs(const RowPairs& source, int64_t row, const ExpertParts& parts, Visit&& visit) {
  int64_t before = -1;
  for (auto pair = source.row_offsets[static_cast<size_t>(row)];
       pair < source.row_offsets[static_cast<size_t>(row) + 1]; ++pair) {
    const int32_t expert = source.experts[static_cast<size_t>(pair)];
    STRAIT_CHECK(parts.has(expert), "expert " + std::to_string(expert));
    const int64_t part = parts.part_of(expert);
    visit(pair, part, part != before);
    before = part;
  }
}

std::vector<int64_t> starts_of(const std::vector<int64_t>& counts) {
  std::vector<int64_t> starts(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), starts.begin(), int64_t{0});
  return starts;
}

}  // namespace

RowPlan plan_rows(const RowPairs& source, std::span<const RowRange> stretches,
                  const ExpertParts& parts) {
  const int num_parts = parts.num_parts();
  RowPlan plan{.parts = parts, .num_stretches = stretches.size()};
  const auto place = [&](int64_t part, size_t stretch) {
    return static_cast<size_t>(part) * stretches.size() + stretch;
  };

  plan.rows_PS.assign(static_cast<size_t>(num_parts) * stretches.size(), 0);
  std::vector<int64_t> pairs_PS(plan.rows_PS);
  plan.sum_offsets.assign(static_cast<size_t>(source.num_rows()) + 1, 0);
  int64_t visited = 0;
  for (size_t stretch = 0; stretch < stretches.size(); ++stretch)
    for (int64_t row = stretches[stretch].first; row < stretches[stretch].last; ++row, ++visited)
      for_pairs(source, row, parts, [&](int32_t, int64_t part, bool is_first) {
        ++pairs_PS[place(part, stretch)];
        if (!is_first) return;
        ++plan.rows_PS[place(part, stretch)];
        ++plan.sum_offsets[static_cast<size_t>(row) + 1];
      });
  STRAIT_CHECK(visited == source.num_rows(), "every row in one stretch");
  for (int part = 0; part < num_parts; ++part) {
    const auto begin = pairs_PS.begin() + static_cast<std::ptrdiff_t>(place(part, 0));
    plan.pairs_P.push_back(
        std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(stretches.size()), int64_t{0}));
  }
  std::partial_sum(plan.sum_offsets.begin(), plan.sum_offsets.end(), plan.sum_offsets.begin());

  const auto num_rows = static_cast<size_t>(plan.sum_offsets.back());
  plan.pairs.row_offsets.assign(num_rows + 1, 0);
  plan.pairs.experts.resize(source.experts.size());
  plan.source_row.resize(num_rows);
  plan.source_pair.resize(source.experts.size());
  plan.sum_experts.resize(num_rows);
  plan.sum_rows.resize(num_rows);
  std::vector<int64_t> next_row = starts_of(plan.rows_PS), next_pair = starts_of(pairs_PS);
  for (size_t stretch = 0; stretch < stretches.size(); ++stretch)
    for (int64_t row = stretches[stretch].first; row < stretches[stretch].last; ++row) {
      auto entry = static_cast<size_t>(plan.sum_offsets[static_cast<size_t>(row)]);
      size_t made = 0;
      for_pairs(source, row, parts, [&](int32_t pair, int64_t part, bool is_first) {
        if (is_first) {
          made = static_cast<size_t>(next_row[place(part, stretch)]++);
          plan.source_row[made] = static_cast<int32_t>(row);
          plan.sum_experts[entry] = static_cast<int32_t>(parts.experts_of(part).first);
          plan.sum_rows[entry++] = static_cast<int32_t>(made);
        }
        const auto at = static_cast<size_t>(next_pair[place(part, stretch)]++);
        plan.pairs.experts[at] = source.experts[static_cast<size_t>(pair)];
        plan.source_pair[at] = pair;
        plan.pairs.row_offsets[made + 1] = static_cast<int32_t>(at + 1);
      });
    }
  return plan;
}

std::vector<RowRange> equal_stretches(int64_t count, int num_stretches) {
  std::vector<RowRange> stretches;
  for (int64_t i = 0; i < num_stretches; ++i)
    stretches.push_back({count * i / num_stretches, count * (i + 1) / num_stretches});
  return stretches;
}

}  // namespace strait
