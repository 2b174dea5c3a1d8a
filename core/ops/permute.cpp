#include "core/ops/permute.h"

#include <vector>

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/elementwise.h"
#include "core/ops/cpu/kernels/permute.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

template <class T>
void check_index_values(const char* op, std::span<const T> index, int64_t rows) {
  for (size_t i = 0; i < index.size(); ++i) {
    if (index[i] >= 0 && index[i] < rows) continue;
    throw_operand(op, "index " + std::to_string(index[i]) + " at position " + std::to_string(i) +
                          " is outside " + std::to_string(rows) + " rows");
  }
}

void check_index(const char* op, const Tensor& index, int64_t rows) {
  if (index.dtype() == DType::i64)
    check_index_values<int64_t>(op, index.span<int64_t>(), rows);
  else
    check_index_values<int32_t>(op, index.span<int32_t>(), rows);
}

// Returns the largest number of entries of an output row.
int64_t check_entries(const char* op, const TreeEntrySpans& entries, ExpertRange range,
                      int64_t num_rows) {
  const auto [offsets, experts, rows] = entries;
  if (offsets.front() != 0 || offsets.back() != static_cast<int64_t>(experts.size()))
    throw_operand(op, "offsets: expected 0 to " + std::to_string(experts.size()) + ", got " +
                          std::to_string(offsets.front()) + " to " +
                          std::to_string(offsets.back()));
  int64_t most = 0;
  for (size_t t = 0; t + 1 < offsets.size(); ++t) {
    if (offsets[t] > offsets[t + 1])
      throw_operand(op, "offsets fall after row " + std::to_string(t));
    most = std::max<int64_t>(most, offsets[t + 1] - offsets[t]);
    for (int32_t e = offsets[t]; e < offsets[t + 1]; ++e) {
      const int32_t expert = experts[static_cast<size_t>(e)], row = rows[static_cast<size_t>(e)];
      if (expert < range.first || expert >= range.last)
        throw_operand(op, "expert " + std::to_string(expert) + " of output row " +
                              std::to_string(t) + " is outside [" + std::to_string(range.first) +
                              ", " + std::to_string(range.last) + ")");
      if (e > offsets[t] && experts[static_cast<size_t>(e) - 1] >= expert)
        throw_operand(op, "experts of output row " + std::to_string(t) + " do not ascend");
      if (row < 0 || row >= num_rows)
        throw_operand(op, "row " + std::to_string(row) + " of output row " + std::to_string(t) +
                              " is outside " + std::to_string(num_rows) + " rows");
    }
  }
  return most;
}

cpu::TreeSum kernel_arguments(const Tensor& rows_RH, const TreeEntrySpans& entries,
                              ExpertRange range, bool accumulate, const Tensor& out_TH) {
  return {.rows = cpu::rows_of(rows_RH),
          .out = cpu::rows_of(out_TH),
          .offsets = entries.offsets.data(),
          .experts = entries.experts.data(),
          .entry_rows = entries.rows.data(),
          .first = range.first,
          .last = range.last,
          .accumulate = accumulate};
}

// `most`: entries of the output row that has the most.
void sum_rows(const cpu::TreeSum& arguments, int64_t cols, int64_t most, int64_t begin,
              int64_t end) {
  std::vector<float> scratch(static_cast<size_t>(most * cpu::kTreeColumns));
  std::vector<int> adds(static_cast<size_t>(2 * most));
  STRAIT_CPU_KERNEL(tree_sum)(arguments, cols, begin, end, scratch.data(), adds.data());
}

}  // namespace

void gather_rows(Context& ctx, const Tensor& x_TH, const Tensor& index_R, Tensor& out_RH) {
  const char* op = "gather_rows";
  check_flat(op, "index", index_R, kAnySize, {DType::i32, DType::i64});
  check_matrix(op, "x", x_TH, kAnySize, kAnySize, kActivationTypes);
  const int64_t rows = index_R.numel(), cols = x_TH.cols();
  check_matrix(op, "out", out_RH, rows, cols, kActivationTypes);
  const Cost cost{.bytes = static_cast<double>(index_R.bytes() + 2 * out_RH.bytes()),
                  .op_class = OpClass::permute};
  ctx.run(cost, [&] {
    check_index(op, index_R, x_TH.rows());
    const auto kernel = STRAIT_CPU_KERNEL(gather_rows);
    const cpu::Rows x = cpu::rows_of(x_TH), out = cpu::rows_of(out_RH);
    const cpu::Index index = cpu::index_of(index_R);
    ctx.pool().parallel_for(rows, cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
      kernel(x, index, out, cols, begin, end);
    });
  });
}

void tree_sum(Context& ctx, const Tensor& rows_RH, const TreeEntries& entries, ExpertRange range,
              Accumulate accumulate, Tensor& out_TH) {
  const char* op = "tree_sum";
  check_matrix(op, "rows", rows_RH, kAnySize, kAnySize, kActivationTypes);
  check_matrix(op, "out", out_TH, kAnySize, rows_RH.cols(), kActivationTypes);
  const int64_t tokens = out_TH.rows(), cols = out_TH.cols();
  check_flat(op, "offsets", entries.offsets, tokens + 1, {DType::i32});
  check_flat(op, "experts", entries.experts, kAnySize, {DType::i32});
  check_flat(op, "entry rows", entries.rows, entries.experts.numel(), {DType::i32});
  const double terms = static_cast<double>(entries.experts.numel() * cols);
  const Cost cost{.flops = terms,
                  .bytes = terms * static_cast<double>(size_of(rows_RH.dtype())) +
                           static_cast<double>(out_TH.bytes())};
  ctx.run(cost, [&] {
    const TreeEntrySpans spans{entries.offsets.span<int32_t>(), entries.experts.span<int32_t>(),
                               entries.rows.span<int32_t>()};
    const int64_t most = check_entries(op, spans, range, rows_RH.rows());
    const cpu::TreeSum arguments =
        kernel_arguments(rows_RH, spans, range, accumulate == Accumulate::yes, out_TH);
    const int64_t grain = cpu::row_grain(cols * std::max<int64_t>(1, most));
    ctx.pool().parallel_for(tokens, grain, [&](int64_t begin, int64_t end) {
      sum_rows(arguments, cols, most, begin, end);
    });
  });
}

void tree_sum_part(const Tensor& rows_RH, const TreeEntrySpans& entries, ExpertRange range,
                   int64_t begin, int64_t end, const Tensor& out_TH) {
  int64_t most = 0;
  for (auto t = static_cast<size_t>(begin); t < static_cast<size_t>(end); ++t)
    most = std::max<int64_t>(most, entries.offsets[t + 1] - entries.offsets[t]);
  sum_rows(kernel_arguments(rows_RH, entries, range, false, out_TH), out_TH.cols(), most, begin,
           end);
}

}  // namespace strait
