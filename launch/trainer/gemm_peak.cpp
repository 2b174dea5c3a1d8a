#include "launch/trainer/gemm_peak.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "core/ops/gemm.h"

namespace strait {
namespace {

constexpr int64_t kRows = 256, kFeatures = 512;
constexpr std::chrono::duration<double> kMeasured(0.05);

// Not zeros, which take less power, so that the clock is higher.
Tensor numbers(Context& ctx, int64_t rows) {
  Tensor tensor = ctx.empty({rows, kFeatures}, DType::f32, Purpose::workspace);
  std::minstd_rand random(1);
  for (float& value : tensor.span<float>())
    value = static_cast<float>(random() % 2048) / 1024.0f - 1.0f;
  return tensor;
}

}  // namespace

double gemm_peak(DType compute) {
  using Clock = std::chrono::steady_clock;
  Context ctx(Device::cpu, 1);  // of its own: the rank's account stays as it is
  PackedWeight weight(Orientation::forward);
  weight.pack(ctx, numbers(ctx, kFeatures), compute);
  const Tensor x = numbers(ctx, kRows);
  const Tensor y = ctx.empty(x.shape(), DType::f32, Purpose::workspace);
  linear(ctx, x, weight, y);  // the first one meets cold caches
  const Clock::time_point start = Clock::now();
  auto best = std::chrono::duration<double>::max();
  for (Clock::time_point now = start; now - start < kMeasured;) {
    const Clock::time_point before = now;
    linear(ctx, x, weight, y);
    now = Clock::now();
    best = std::min<std::chrono::duration<double>>(best, now - before);
  }
  return 2.0 * kRows * kFeatures * kFeatures / best.count();
}

}  // namespace strait
