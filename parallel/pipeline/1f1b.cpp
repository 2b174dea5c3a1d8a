#include <algorithm>

#include "parallel/pipeline/schedule_rules.h"
#include "parallel/pipeline/schedules.h"

namespace strait {

void require_1f1b(const ScheduleOptions& options) { require_counts(options, "1f1b", 1); }

Schedule schedule_1f1b(const ScheduleOptions& options) {
  require_1f1b(options);
  Schedule schedule = empty_schedule("1f1b", options, 1, stage_in_rounds);
  const int num_microbatches = options.microbatches;
  for (int position = 0; position < options.positions; ++position) {
    std::vector<Slot>& slots = schedule.slots[position];
    const int warmup = std::min(num_microbatches, options.positions - 1 - position);
    for (int m = 0; m < warmup; ++m) slots.push_back({Work::forward, m});
    for (int m = 0; m < num_microbatches; ++m) {
      if (warmup + m < num_microbatches) slots.push_back({Work::forward, warmup + m});
      slots.push_back({Work::backward, m});
    }
  }
  return schedule;
}

}  // namespace strait
