#include "core/ops/rms_norm.h"

#include "core/ops/check.h"
#include "core/ops/cpu/fp8_rows.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/column_sums.h"
#include "core/ops/cpu/kernels/elementwise.h"
#include "core/ops/cpu/kernels/rms_norm.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

constexpr int64_t kRowsPerPartialSum = 32;  // part of the result: the order of d_weight's sum
constexpr int64_t kColumnsPerTask = 512;

double bytes_of(std::initializer_list<const Tensor*> tensors) {
  double bytes = 0;
  for (const Tensor* tensor : tensors)
    if (tensor->defined()) bytes += static_cast<double>(tensor->bytes());
  return bytes;
}

}  // namespace

void rms_norm(Context& ctx, const Tensor& x_TH, const Tensor& weight_H, double eps, Tensor& y_TH) {
  const int64_t rows = x_TH.rows(), cols = x_TH.cols();
  check_matrix("rms_norm", "x", x_TH, kAnySize, kAnySize, kActivationTypes);
  check_flat("rms_norm", "weight", weight_H, cols, {DType::f32});
  check_matrix("rms_norm", "y", y_TH, rows, cols, kActivationTypes);
  const Cost cost{.flops = 4.0 * static_cast<double>(x_TH.numel()),
                  .bytes = bytes_of({&x_TH, &weight_H, &y_TH})};
  ctx.run(cost, [&] {
    const auto kernel = STRAIT_CPU_KERNEL(rms_norm);
    const cpu::Rows x = cpu::rows_of(x_TH), y = cpu::rows_of(y_TH);
    const float* weight = weight_H.data<float>();
    ctx.pool().parallel_for(rows, cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
      kernel(x, weight, static_cast<float>(eps), y, cols, begin, end);
    });
  });
}

void rms_norm(Context& ctx, const Tensor& x_TH, const Tensor& weight_H, double eps,
              Fp8Matrix& y_TH) {
  const int64_t cols = x_TH.cols();
  check_matrix("rms_norm", "x", x_TH, y_TH.codes_RC.rows(), y_TH.codes_RC.cols(), kActivationTypes);
  check_flat("rms_norm", "weight", weight_H, cols, {DType::f32});
  const Cost cost{.flops = 4.0 * static_cast<double>(x_TH.numel()),
                  .bytes = bytes_of({&x_TH, &weight_H, &y_TH.codes_RC, &y_TH.scales})};
  cpu::make_fp8_rows(ctx, cost, DType::bf16, kActivationScales, y_TH,
                     [&](cpu::Rows y, int64_t begin, int64_t end) {
                       STRAIT_CPU_KERNEL(rms_norm)
                       (cpu::rows_of(x_TH), weight_H.data<float>(), static_cast<float>(eps), y,
                        cols, begin, end);
                     });
}

void rms_norm_backward(Context& ctx, const Tensor& dy_TH, const Tensor& x_TH,
                       const Tensor& weight_H, double eps, Accumulate accumulate, Tensor& dx_TH,
                       Tensor& d_weight_H) {
  const char* op = "rms_norm_backward";
  check_matrix(op, "x", x_TH, kAnySize, kAnySize, kActivationTypes);
  const int64_t rows = x_TH.rows(), cols = x_TH.cols();
  check_matrix(op, "dy", dy_TH, rows, cols, kActivationTypes);
  check_flat(op, "weight", weight_H, cols, {DType::f32});
  if (dx_TH.defined()) check_matrix(op, "dx", dx_TH, rows, cols, kActivationTypes);
  if (d_weight_H.defined()) check_flat(op, "d_weight", d_weight_H, cols, {DType::f32});

  const int64_t chunks = (rows + kRowsPerPartialSum - 1) / kRowsPerPartialSum;
  Tensor partial;
  if (d_weight_H.defined() && rows > 0)
    partial = ctx.empty({chunks, cols}, DType::f32, Purpose::workspace);
  const Cost cost{.flops = 12.0 * static_cast<double>(x_TH.numel()),
                  .bytes = bytes_of({&dy_TH, &x_TH, &weight_H, &dx_TH, &d_weight_H})};
  ctx.run(cost, [&] {
    if (x_TH.numel() == 0) return;
    const auto kernel = STRAIT_CPU_KERNEL(rms_norm_backward);
    cpu::RmsNormGradient args{.dy = cpu::rows_of(dy_TH),
                              .x = cpu::rows_of(x_TH),
                              .dx = cpu::rows_of(dx_TH),
                              .weight = weight_H.data<float>(),
                              .want_dx = dx_TH.defined(),
                              .accumulate = accumulate == Accumulate::yes,
                              .eps = static_cast<float>(eps)};
    float* sums = partial.defined() ? partial.data<float>() : nullptr;
    ctx.pool().parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk) {
        cpu::RmsNormGradient mine = args;
        if (sums != nullptr) mine.d_weight = sums + chunk * cols;
        kernel(mine, cols, chunk * kRowsPerPartialSum,
               std::min(rows, (chunk + 1) * kRowsPerPartialSum));
      }
    });
    if (sums == nullptr) return;
    const auto add_up = STRAIT_CPU_KERNEL(column_sums);
    const auto add_to = STRAIT_CPU_KERNEL(add);
    float* d_weight = d_weight_H.data<float>();
    ctx.pool().parallel_for(cols, kColumnsPerTask, [&](int64_t begin, int64_t end) {
      add_up(sums, chunks, cols, begin, end);
      add_to({sums + begin, cols, false}, {d_weight + begin, cols, false}, end - begin, 0, 1);
    });
  });
}

}  // namespace strait
