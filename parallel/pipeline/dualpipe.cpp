#include <algorithm>

#include "parallel/pipeline/dualpipe_steps.h"
#include "parallel/pipeline/schedule_rules.h"
#include "parallel/pipeline/schedules.h"

namespace strait {

void require_dualpipe(const ScheduleOptions& o) {
  require_counts(o, "dualpipe", 2);
  if (o.positions % 2 != 0)
    refuse(o.positions_key, o.positions, "dualpipe",
           "needs an even number, as the copies of a stage are at mirrored positions",
           nearest_multiples(o.positions, 2, 2));
  if (o.microbatches < 2 * o.positions)
    refuse(o.microbatches_key, o.microbatches, "dualpipe",
           "needs at least two for each of its " + std::to_string(o.positions) + " positions",
           std::to_string(2 * o.positions));
  if (o.microbatches % 2 != 0)
    refuse(o.microbatches_key, o.microbatches, "dualpipe",
           "needs an even number, half of them for each direction",
           nearest_multiples(o.microbatches, 2, 2 * o.positions));
}

Schedule schedule_dualpipe(const ScheduleOptions& options) {
  require_dualpipe(options);
  const int num_positions = options.positions, half = num_positions / 2;
  Schedule schedule;
  schedule.name = "dualpipe";
  schedule.num_microbatches = options.microbatches;
  schedule.num_stages = num_positions;
  schedule.num_copies = 2;
  const DualPipeSide forward{.chunk = 0, .first_microbatch = 0};
  const DualPipeSide reverse{.chunk = 1, .first_microbatch = options.microbatches / 2};
  for (int position = 0; position < num_positions; ++position) {
    const int mirror = num_positions - 1 - position;
    const bool first_half = position < half;
    const int from_entry = std::min(position, mirror);
    schedule.chunks.push_back({{.stage = position, .copy = 0}, {.stage = mirror, .copy = 1}});
    schedule.slots.push_back(dualpipe_steps(
        {.distance = half - 1 - from_entry,
         .from_entry = from_entry,
         .num_microbatches = options.microbatches / 2,
         .sides = {first_half ? forward : reverse, first_half ? reverse : forward}}));
  }
  return schedule;
}

}  // namespace strait
