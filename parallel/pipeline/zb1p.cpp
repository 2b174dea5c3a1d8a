#include <algorithm>

#include "parallel/pipeline/schedule_rules.h"
#include "parallel/pipeline/schedules.h"

namespace strait {

void require_zb1p(const ScheduleOptions& options) { require_counts(options, "zb1p", 1); }

Schedule schedule_zb1p(const ScheduleOptions& options) {
  require_zb1p(options);
  Schedule schedule = empty_schedule("zb1p", options, 1, stage_in_rounds);
  const int num_microbatches = options.microbatches;
  for (int position = 0; position < options.positions; ++position) {
    std::vector<Slot>& slots = schedule.slots[position];
    const int warmup = std::min(num_microbatches, options.positions - 1 - position);
    // Later positions warm up with fewer forwards: they may hold as many micro-batches more until
    // their weight gradients.
    const int delay = position;
    for (int m = 0; m < warmup; ++m) slots.push_back({Work::forward, m});
    for (int m = 0; m < num_microbatches; ++m) {
      if (warmup + m < num_microbatches) slots.push_back({Work::forward, warmup + m});
      slots.push_back({Work::input_gradient, m});
      if (m >= delay) slots.push_back({Work::weight_gradient, m - delay});
    }
    for (int m = std::max(0, num_microbatches - delay); m < num_microbatches; ++m)
      slots.push_back({Work::weight_gradient, m});
  }
  return schedule;
}

}  // namespace strait
