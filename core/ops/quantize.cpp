#include "core/ops/quantize.h"

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/quantize.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

// What is quantised is read once, its codes and scales written; or the other way round.
Cost cost_of(double bytes, const Tensor& codes, const Tensor& scales) {
  return {.bytes = bytes + static_cast<double>(codes.bytes() + scales.bytes())};
}

cpu::Fp8Rows fp8_rows(const Tensor& codes, const Tensor& scales, int64_t rows, int64_t cols,
                      ScaleLayout layout) {
  return {.codes = codes.data<uint8_t>(),
          .scales = scales.data<float>(),
          .rows = rows,
          .cols = cols,
          .scale_stride = scale_stride(layout, rows, cols),
          .blocks = layout == ScaleLayout::blocks_128x128};
}
cpu::Fp8Rows fp8_rows(const Fp8Matrix& q) {
  return fp8_rows(q.codes_RC, q.scales, q.codes_RC.rows(), q.codes_RC.cols(), q.layout);
}

cpu::ScaleRule rule_of(const QuantizeSettings& settings) {
  return {settings.least_max, settings.power_of_two};
}

void check_fp8(const char* op, const char* name, const Fp8Matrix& q, int64_t rows, int64_t cols,
               ScaleLayout layout) {
  if (q.layout != layout)
    throw_operand(op, std::string(name) + ": expected scales of " + name_of(layout) + ", got " +
                          name_of(q.layout));
  check_flat(op, name, q.codes_RC, rows * cols, {DType::u8});
  check_matrix(op, name, q.codes_RC, rows, cols, {DType::u8});
  check_flat(op, "scales", q.scales, num_scales(layout, rows, cols), {DType::f32});
}

int64_t num_tiles(int64_t rows, int64_t cols) {
  return ceil_div(rows, kScaleBlock) * ceil_div(cols, kScaleBlock);
}

}  // namespace

Fp8Matrix empty_fp8(Context& ctx, int64_t rows, int64_t cols, ScaleLayout layout, Purpose purpose) {
  return {ctx.empty({rows, cols}, DType::u8, purpose),
          ctx.empty({num_scales(layout, rows, cols)}, DType::f32, purpose), layout};
}

void quantize_rows(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                   Fp8Matrix& q_RC) {
  check_matrix("quantize_rows", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_fp8("quantize_rows", "q", q_RC, x_RC.rows(), x_RC.cols(), ScaleLayout::rows_1x128);
  ctx.run(cost_of(double(x_RC.bytes()), q_RC.codes_RC, q_RC.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(quantize_rows);
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows q = fp8_rows(q_RC);
    ctx.pool().parallel_for(q.rows, cpu::row_grain(q.cols), [&](int64_t begin, int64_t end) {
      kernel(x, rule_of(settings), q, begin, end);
    });
  });
}

void quantize_columns(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                      Fp8Matrix& q_CR) {
  check_matrix("quantize_columns", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_fp8("quantize_columns", "q", q_CR, x_RC.cols(), x_RC.rows(), ScaleLayout::rows_1x128);
  ctx.run(cost_of(double(x_RC.bytes()), q_CR.codes_RC, q_CR.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(quantize_columns);
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows q = fp8_rows(q_CR);
    ctx.pool().parallel_for(num_tiles(q.cols, q.rows), 1, [&](int64_t begin, int64_t end) {
      kernel(x, rule_of(settings), q, begin, end);
    });
  });
}

void requantize_columns(Context& ctx, const Fp8Matrix& q_RC, const QuantizeSettings& settings,
                        Fp8Matrix& q_CR) {
  const int64_t rows = q_RC.codes_RC.rows(), cols = q_RC.codes_RC.cols();
  check_fp8("requantize_columns", "x", q_RC, rows, cols, q_RC.layout);
  check_fp8("requantize_columns", "q", q_CR, cols, rows, ScaleLayout::rows_1x128);
  ctx.run(cost_of(double(q_RC.codes_RC.bytes()), q_CR.codes_RC, q_CR.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(requantize_columns);
    const cpu::Fp8Rows x = fp8_rows(q_RC), q = fp8_rows(q_CR);
    ctx.pool().parallel_for(num_tiles(rows, cols), 1, [&](int64_t begin, int64_t end) {
      kernel(x, rule_of(settings), q, begin, end);
    });
  });
}

void quantize_blocks(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                     Fp8Matrix& q_RC) {
  check_matrix("quantize_blocks", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_fp8("quantize_blocks", "q", q_RC, x_RC.rows(), x_RC.cols(), ScaleLayout::blocks_128x128);
  ctx.run(cost_of(double(x_RC.bytes()), q_RC.codes_RC, q_RC.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(quantize_blocks);
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows q = fp8_rows(q_RC);
    ctx.pool().parallel_for(num_tiles(q.rows, q.cols), 1, [&](int64_t begin, int64_t end) {
      kernel(x, rule_of(settings), q, begin, end);
    });
  });
}

void dequantize(Context& ctx, const Fp8Matrix& q_RC, Tensor& x_RC) {
  check_matrix("dequantize", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_fp8("dequantize", "q", q_RC, x_RC.rows(), x_RC.cols(), q_RC.layout);
  ctx.run(cost_of(double(x_RC.bytes()), q_RC.codes_RC, q_RC.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(dequantize);
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows q = fp8_rows(q_RC);
    ctx.pool().parallel_for(q.rows, cpu::row_grain(q.cols),
                            [&](int64_t begin, int64_t end) { kernel(q, x, begin, end); });
  });
}

E5m6Matrix empty_e5m6(Context& ctx, int64_t rows, int64_t cols, Purpose purpose) {
  return {ctx.empty({rows, 3 * ceil_div(cols, 2)}, DType::u8, purpose),
          ctx.empty({num_scales(ScaleLayout::rows_1x128, rows, cols)}, DType::f32, purpose)};
}

namespace {

// kernel(x, q, begin, end) over the rows.
template <class Kernel>
void run_e5m6(const char* op, Context& ctx, const Tensor& x_RC, const E5m6Matrix& q,
              const Kernel& kernel) {
  const int64_t rows = x_RC.rows(), cols = x_RC.cols();
  check_matrix(op, "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_flat(op, "q", q.bytes, rows * 3 * ceil_div(cols, 2), {DType::u8});
  check_flat(op, "scales", q.scales, num_scales(ScaleLayout::rows_1x128, rows, cols), {DType::f32});
  ctx.run(cost_of(double(x_RC.bytes()), q.bytes, q.scales), [&] {
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows fp8 = fp8_rows(q.bytes, q.scales, rows, cols, ScaleLayout::rows_1x128);
    ctx.pool().parallel_for(rows, cpu::row_grain(cols),
                            [&](int64_t begin, int64_t end) { kernel(x, fp8, begin, end); });
  });
}

}  // namespace

void quantize_e5m6(Context& ctx, const Tensor& x_RC, E5m6Matrix& q_RC) {
  run_e5m6("quantize_e5m6", ctx, x_RC, q_RC, [&](auto x, auto q, int64_t begin, int64_t end) {
    STRAIT_CPU_KERNEL(quantize_e5m6)(x, q, begin, end);
  });
}

void dequantize_e5m6(Context& ctx, const E5m6Matrix& q_RC, Tensor& x_RC) {
  run_e5m6("dequantize_e5m6", ctx, x_RC, q_RC, [&](auto x, auto q, int64_t begin, int64_t end) {
    STRAIT_CPU_KERNEL(dequantize_e5m6)(q, x, begin, end);
  });
}

}  // namespace strait
