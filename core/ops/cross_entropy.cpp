#include "core/ops/cross_entropy.h"

#include <cmath>
#include <cstring>

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/cross_entropy.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

constexpr int32_t kIgnored = -1;

void check_operands(const char* op, const Tensor& logits_CV, const Tensor& targets_C,
                    const Tensor& nll_C) {
  check_matrix(op, "logits", logits_CV, kAnySize, kAnySize, {DType::f32});
  check_flat(op, "targets", targets_C, logits_CV.rows(), {DType::i32});
  check_flat(op, "nll", nll_C, logits_CV.rows(), {DType::f32});
  if (logits_CV.cols() == 0) throw_operand(op, "logits: expected at least one column");
}

void check_targets(const char* op, std::span<const int32_t> targets, int64_t vocabulary) {
  for (size_t c = 0; c < targets.size(); ++c) {
    if (targets[c] == kIgnored || (targets[c] >= 0 && targets[c] < vocabulary)) continue;
    throw DataError(std::string("[") + op + "] target " + std::to_string(targets[c]) +
                    " at position " + std::to_string(c) + " is outside the vocabulary of " +
                    std::to_string(vocabulary));
  }
}

// One row: returns its loss; with `gradient`, x becomes (softmax - onehot) * scale.
float row_loss(float* x, int64_t cols, int32_t target, bool gradient, double scale) {
  const float max = STRAIT_CPU_KERNEL(row_max)(x, cols);
  const float at_target = x[target];
  const double sum = STRAIT_CPU_KERNEL(row_sum_exp)(x, cols, max, gradient);
  if (gradient) {
    const double probability = static_cast<double>(x[target]) / sum;
    STRAIT_CPU_KERNEL(row_scale)(x, cols, static_cast<float>(scale / sum));
    x[target] = static_cast<float>((probability - 1) * scale);
  }
  return static_cast<float>(std::log(sum) - (static_cast<double>(at_target) - max));
}

void run_rows(Context& ctx, const char* op, const Tensor& logits_CV, const Tensor& targets_C,
              const Tensor& nll_C, bool gradient, double scale) {
  const int64_t cols = logits_CV.cols();
  check_targets(op, targets_C.span<int32_t>(), cols);
  const int32_t* targets = targets_C.data<int32_t>();
  float* nll = nll_C.data<float>();
  const cpu::Rows logits = cpu::rows_of(logits_CV);
  ctx.pool().parallel_for(logits_CV.rows(), cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      float* x = static_cast<float*>(logits.data) + c * logits.stride;
      if (targets[c] == kIgnored) {
        nll[c] = 0;
        if (gradient) std::memset(x, 0, static_cast<size_t>(cols) * sizeof(float));
      } else {
        nll[c] = row_loss(x, cols, targets[c], gradient, scale);
      }
    }
  });
}

}  // namespace

void cross_entropy(Context& ctx, const Tensor& logits_CV, const Tensor& targets_C, Tensor& nll_C) {
  const char* op = "cross_entropy";
  check_operands(op, logits_CV, targets_C, nll_C);
  const Cost cost{.flops = 4.0 * static_cast<double>(logits_CV.numel()),
                  .bytes = static_cast<double>(logits_CV.bytes())};
  ctx.run(cost, [&] { run_rows(ctx, op, logits_CV, targets_C, nll_C, false, 0); });
}

void cross_entropy_with_gradient(Context& ctx, Tensor& logits_CV, const Tensor& targets_C,
                                 double scale, Tensor& nll_C) {
  const char* op = "cross_entropy_with_gradient";
  check_operands(op, logits_CV, targets_C, nll_C);
  const Cost cost{.flops = 5.0 * static_cast<double>(logits_CV.numel()),
                  .bytes = 2.0 * static_cast<double>(logits_CV.bytes())};
  ctx.run(cost, [&] { run_rows(ctx, op, logits_CV, targets_C, nll_C, true, scale); });
}

}  // namespace strait
