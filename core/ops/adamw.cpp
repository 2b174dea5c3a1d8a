#include "core/ops/adamw.h"

#include <cmath>

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/adamw.h"
#include "core/ops/cpu/tensor_rows.h"
#include "core/ops/math/adamw.h"

namespace strait {
namespace {

constexpr int64_t kElementsPerTask = 16384;

}  // namespace

AdamWFactors adamw_factors(const AdamWStep& step) {
  return {.gradient_scale = static_cast<float>(step.gradient_scale),
          .decay = static_cast<float>(1 - step.lr * step.weight_decay),
          .one_minus_beta1 = static_cast<float>(1 - step.beta1),
          .beta2 = static_cast<float>(step.beta2),
          .one_minus_beta2 = static_cast<float>(1 - step.beta2),
          .sqrt_correction2 = static_cast<float>(std::sqrt(step.bias_correction2)),
          .eps = static_cast<float>(step.eps),
          .minus_step = static_cast<float>(-step.lr / step.bias_correction1)};
}

void adamw(Context& ctx, const AdamWStep& step, AdamWTensors& t) {
  const char* op = "adamw";
  check_flat(op, "gradient", t.gradient, kAnySize, {DType::f32});
  const int64_t numel = t.gradient.numel();
  check_flat(op, "master", t.master, numel, {DType::f32});
  check_flat(op, "m", t.m, numel, kActivationTypes);
  check_flat(op, "v", t.v, numel, kActivationTypes);
  int64_t bytes = t.gradient.bytes() + 2 * (t.master.bytes() + t.m.bytes() + t.v.bytes());
  if (t.copy_f32.defined()) {
    check_flat(op, "copy_f32", t.copy_f32, numel, {DType::f32});
    bytes += t.copy_f32.bytes();
  }
  if (t.copy_bf16.defined()) {
    check_flat(op, "copy_bf16", t.copy_bf16, numel, {DType::bf16});
    bytes += t.copy_bf16.bytes();
  }
  const Cost cost{.flops = 14.0 * static_cast<double>(numel), .bytes = static_cast<double>(bytes)};
  ctx.run(cost, [&] {
    const AdamWFactors factors = adamw_factors(step);
    const cpu::AdamWArrays arrays{
        .gradient = t.gradient.data<float>(),
        .master = t.master.data<float>(),
        .m = cpu::rows_of(t.m),
        .v = cpu::rows_of(t.v),
        .copy_f32 = t.copy_f32.defined() ? t.copy_f32.data<float>() : nullptr,
        .copy_bf16 = t.copy_bf16.defined()
                         ? reinterpret_cast<unsigned short*>(t.copy_bf16.data<bfloat16>())
                         : nullptr};
    const auto kernel = STRAIT_CPU_KERNEL(adamw);
    ctx.pool().parallel_for(numel, kElementsPerTask, [&](int64_t begin, int64_t end) {
      kernel(factors, arrays, begin, end);
    });
  });
}

}  // namespace strait
