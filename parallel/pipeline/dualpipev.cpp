#include "parallel/pipeline/dualpipe_steps.h"
#include "parallel/pipeline/schedule_rules.h"
#include "parallel/pipeline/schedules.h"

namespace strait {

void require_dualpipev(const ScheduleOptions& options) {
  require_counts(options, "dualpipev", 2);
  if (options.microbatches < 2 * options.positions)
    refuse(options.microbatches_key, options.microbatches, "dualpipev",
           "needs at least two for each of its " + std::to_string(options.positions) + " positions",
           std::to_string(2 * options.positions));
}

Schedule schedule_dualpipev(const ScheduleOptions& options) {
  require_dualpipev(options);
  Schedule schedule = empty_schedule("dualpipev", options, 2, stage_in_v);
  for (int position = 0; position < options.positions; ++position)
    schedule.slots[position] = dualpipe_steps({.distance = options.positions - 1 - position,
                                               .from_entry = position,
                                               .num_microbatches = options.microbatches,
                                               .sides = {{.chunk = 0}, {.chunk = 1}}});
  return schedule;
}

}  // namespace strait
