#include <algorithm>

#include "parallel/pipeline/schedule_rules.h"
#include "parallel/pipeline/schedules.h"

namespace strait {
namespace {

constexpr int kChunks = 2;  // where none are asked for

// Work `index` of a position: R micro-batches through the first chunk, the same R through the next
// one, and so on; then the next R micro-batches. Gradients take the chunks from the last to the
// first.
Slot slot_at(Work work, int index, int positions, int chunks) {
  const int round = index / (positions * chunks), chunk = index / positions % chunks;
  return {work, round * positions + index % positions,
          work == Work::forward ? chunk : chunks - 1 - chunk};
}

int chunks_of(const ScheduleOptions& options) {
  return options.chunks == 0 ? kChunks : options.chunks;
}

}  // namespace

void require_interleaved(const ScheduleOptions& options) {
  require_counts(options, "interleaved", chunks_of(options));
  const int positions = options.positions, chunks = chunks_of(options);
  if (chunks < 2)
    refuse(options.chunks_key, chunks, "interleaved",
           "needs 2 or more at each position (with 1 it is 1f1b)", "2");
  if (options.microbatches % positions != 0)
    refuse(options.microbatches_key, options.microbatches, "interleaved",
           "needs a multiple of its " + std::to_string(positions) + " positions",
           nearest_multiples(options.microbatches, positions, positions));
}

Schedule schedule_interleaved(const ScheduleOptions& options) {
  require_interleaved(options);
  const int positions = options.positions, chunks = chunks_of(options);
  Schedule schedule = empty_schedule("interleaved", options, chunks, stage_in_rounds);
  const int total = options.microbatches * chunks;
  for (int position = 0; position < positions; ++position) {
    std::vector<Slot>& slots = schedule.slots[position];
    const int warmup = std::min(total, (chunks - 1) * positions + 2 * (positions - 1 - position));
    for (int i = 0; i < warmup; ++i) slots.push_back(slot_at(Work::forward, i, positions, chunks));
    for (int i = 0; i < total; ++i) {
      if (warmup + i < total)
        slots.push_back(slot_at(Work::forward, warmup + i, positions, chunks));
      slots.push_back(slot_at(Work::backward, i, positions, chunks));
    }
  }
  return schedule;
}

}  // namespace strait
