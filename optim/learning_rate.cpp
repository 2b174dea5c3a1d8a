#include "optim/learning_rate.h"

#include <cmath>
#include <numbers>
#include <string>

#include "core/errors.h"

namespace strait {
namespace {

// Half a cosine over the steps (first, last]: `from` at first, `to` at last, both exactly.
double half_cosine(double from, double to, int64_t step, int64_t first, int64_t last) {
  if (step >= last) return to;
  const double progress = static_cast<double>(step - first) / static_cast<double>(last - first);
  return to + (from - to) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

double staged_rate(const ScheduleSettings& schedule, int64_t step, int64_t total_steps) {
  double rate = schedule.peak_lr;  // that the stages so far ended with
  int64_t first = schedule.warmup_steps;
  for (const ScheduleStage& stage : schedule.stages) {
    const double target = schedule.peak_lr * stage.lr_multiplier;
    const int64_t last = last_step(stage, total_steps);
    if (step <= last) {
      return stage.shape == "cosine" ? half_cosine(rate, target, step, first, last) : target;
    }
    rate = target;
    first = last;
  }
  return rate;
}

}  // namespace

int64_t last_step(const ScheduleStage& stage, int64_t total_steps) {
  if (stage.until_step > 0) return stage.until_step;
  return std::llround(stage.until_fraction * static_cast<double>(total_steps));
}

double learning_rate(const ScheduleSettings& schedule, int64_t step, int64_t total_steps) {
  STRAIT_CHECK(step >= 1, "steps count from 1, got " + std::to_string(step));
  if (step < schedule.warmup_steps) {
    return schedule.peak_lr * static_cast<double>(step) /
           static_cast<double>(schedule.warmup_steps);
  }
  if (schedule.kind == "cosine") {
    const int64_t first =
        schedule.decay_start_step > 0 ? schedule.decay_start_step : schedule.warmup_steps;
    if (step <= first) return schedule.peak_lr;
    return half_cosine(schedule.peak_lr, schedule.min_lr, step, first, total_steps);
  }
  if (step == schedule.warmup_steps) return schedule.peak_lr;
  if (schedule.kind == "multi_stage") return staged_rate(schedule, step, total_steps);
  STRAIT_CHECK(schedule.kind == "constant", "schedule kind '" + schedule.kind + "'");
  return schedule.peak_lr;
}

}  // namespace strait
