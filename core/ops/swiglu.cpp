#include "core/ops/swiglu.h"

#include "core/ops/check.h"
#include "core/ops/cpu/fp8_rows.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/swiglu.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

// Returns F.
int64_t check_gate_up(const char* op, const Tensor& gate_up_T2F) {
  check_matrix(op, "gate_up", gate_up_T2F, kAnySize, kAnySize, kActivationTypes);
  if (gate_up_T2F.cols() % 2 != 0)
    throw_operand(op,
                  "gate_up: expected an even number of columns, got " + gate_up_T2F.shape().str());
  return gate_up_T2F.cols() / 2;
}

float* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<float>() : nullptr;
}

}  // namespace

void swiglu(Context& ctx, const Tensor& gate_up_T2F, const Tensor& weight_T, Tensor& h_TF) {
  const char* op = "swiglu";
  const int64_t cols = check_gate_up(op, gate_up_T2F), rows = gate_up_T2F.rows();
  check_matrix(op, "h", h_TF, rows, cols, kActivationTypes);
  if (weight_T.defined()) check_flat(op, "weight", weight_T, rows, {DType::f32});
  const Cost cost{.flops = 6.0 * static_cast<double>(h_TF.numel()),
                  .bytes = static_cast<double>(gate_up_T2F.bytes() + h_TF.bytes())};
  ctx.run(cost, [&] {
    const auto kernel = STRAIT_CPU_KERNEL(swiglu);
    const cpu::Rows gate_up = cpu::rows_of(gate_up_T2F), h = cpu::rows_of(h_TF);
    const float* weight = data_or_null(weight_T);
    ctx.pool().parallel_for(rows, cpu::row_grain(2 * cols), [&](int64_t begin, int64_t end) {
      kernel(gate_up, weight, h, cols, begin, end);
    });
  });
}

void swiglu(Context& ctx, const Tensor& gate_up_T2F, const Tensor& weight_T, Fp8Matrix& h_TF) {
  const char* op = "swiglu";
  const int64_t cols = check_gate_up(op, gate_up_T2F), rows = gate_up_T2F.rows();
  check_matrix(op, "h", h_TF.codes_RC, rows, cols, {DType::u8});
  if (weight_T.defined()) check_flat(op, "weight", weight_T, rows, {DType::f32});
  const Cost cost{.flops = 6.0 * static_cast<double>(h_TF.codes_RC.numel()),
                  .bytes = static_cast<double>(gate_up_T2F.bytes() + h_TF.codes_RC.bytes() +
                                               h_TF.scales.bytes())};
  cpu::make_fp8_rows(ctx, cost, DType::bf16, kActivationScales, h_TF,
                     [&](cpu::Rows h, int64_t begin, int64_t end) {
                       STRAIT_CPU_KERNEL(swiglu)
                       (cpu::rows_of(gate_up_T2F), data_or_null(weight_T), h, cols, begin, end);
                     });
}

void swiglu_backward(Context& ctx, const Tensor& dh_TF, const Tensor& gate_up_T2F,
                     const Tensor& weight_T, Tensor& d_gate_up_T2F, Tensor& d_weight_T) {
  const char* op = "swiglu_backward";
  const int64_t cols = check_gate_up(op, gate_up_T2F), rows = gate_up_T2F.rows();
  check_matrix(op, "dh", dh_TF, rows, cols, kActivationTypes);
  check_matrix(op, "d_gate_up", d_gate_up_T2F, rows, 2 * cols, kActivationTypes);
  if (weight_T.defined() != d_weight_T.defined())
    throw_operand(op, "weight and d_weight: expected both or neither");
  if (weight_T.defined()) {
    check_flat(op, "weight", weight_T, rows, {DType::f32});
    check_flat(op, "d_weight", d_weight_T, rows, {DType::f32});
  }
  const Cost cost{
      .flops = 16.0 * static_cast<double>(dh_TF.numel()),
      .bytes = static_cast<double>(dh_TF.bytes() + gate_up_T2F.bytes() + d_gate_up_T2F.bytes())};
  ctx.run(cost, [&] {
    const auto kernel = STRAIT_CPU_KERNEL(swiglu_backward);
    const cpu::Rows dh = cpu::rows_of(dh_TF), gate_up = cpu::rows_of(gate_up_T2F);
    const cpu::Rows d_gate_up = cpu::rows_of(d_gate_up_T2F);
    const float* weight = data_or_null(weight_T);
    float* d_weight = data_or_null(d_weight_T);
    ctx.pool().parallel_for(rows, cpu::row_grain(2 * cols), [&](int64_t begin, int64_t end) {
      kernel(dh, gate_up, weight, d_gate_up, d_weight, cols, begin, end);
    });
  });
}

}  // namespace strait
