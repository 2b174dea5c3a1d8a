#include "core/ops/embedding.h"

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/elementwise.h"
#include "core/ops/cpu/kernels/embedding.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

constexpr int64_t kColumnsPerTask = 128;

void check_tokens(const char* op, std::span<const int32_t> tokens, int64_t vocabulary) {
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] >= 0 && tokens[t] < vocabulary) continue;
    throw DataError(std::string("[") + op + "] token id " + std::to_string(tokens[t]) +
                    " at position " + std::to_string(t) + " is outside the vocabulary of " +
                    std::to_string(vocabulary));
  }
}

}  // namespace

void embedding(Context& ctx, const Tensor& tokens_T, const Tensor& weight_VH, Tensor& out_TH) {
  const char* op = "embedding";
  check_flat(op, "tokens", tokens_T, kAnySize, {DType::i32});
  check_matrix(op, "weight", weight_VH, kAnySize, kAnySize, kActivationTypes);
  const int64_t tokens = tokens_T.numel(), cols = weight_VH.cols();
  check_matrix(op, "out", out_TH, tokens, cols, kActivationTypes);
  const Cost cost{.bytes = static_cast<double>(tokens_T.bytes() + 2 * out_TH.bytes())};
  ctx.run(cost, [&] {
    check_tokens(op, tokens_T.span<int32_t>(), weight_VH.rows());
    const auto kernel = STRAIT_CPU_KERNEL(gather_rows);
    const cpu::Rows weight = cpu::rows_of(weight_VH), out = cpu::rows_of(out_TH);
    const cpu::Index index = cpu::index_of(tokens_T);
    ctx.pool().parallel_for(tokens, cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
      kernel(weight, index, out, cols, begin, end);
    });
  });
}

void embedding_backward(Context& ctx, const Tensor& tokens_T, const Tensor& d_TH,
                        Tensor& d_weight_VH) {
  const char* op = "embedding_backward";
  check_flat(op, "tokens", tokens_T, kAnySize, {DType::i32});
  check_matrix(op, "d_weight", d_weight_VH, kAnySize, kAnySize, {DType::f32});
  const int64_t tokens = tokens_T.numel(), cols = d_weight_VH.cols();
  check_matrix(op, "d", d_TH, tokens, cols, kActivationTypes);
  const Cost cost{.flops = static_cast<double>(d_TH.numel()),
                  .bytes = static_cast<double>(tokens_T.bytes() + d_TH.bytes()) +
                           8.0 * static_cast<double>(d_TH.numel())};
  ctx.run(cost, [&] {
    check_tokens(op, tokens_T.span<int32_t>(), d_weight_VH.rows());
    const auto kernel = STRAIT_CPU_KERNEL(add_rows_at);
    const cpu::Rows d = cpu::rows_of(d_TH), d_weight = cpu::rows_of(d_weight_VH);
    const cpu::Index index = cpu::index_of(tokens_T);
    // A thread owns columns: two tokens of the same id never meet.
    ctx.pool().parallel_for(cols, kColumnsPerTask, [&](int64_t begin, int64_t end) {
      kernel(d, index, d_weight, tokens, begin, end);
    });
  });
}

}  // namespace strait
