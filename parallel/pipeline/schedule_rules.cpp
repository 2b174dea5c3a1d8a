#include "parallel/pipeline/schedule_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"

namespace strait {
namespace {

void require_between(const char* key, int value, std::string_view name, int least, int most) {
  if (value >= least && value <= most) return;
  refuse(key, value, name, fmt::format("takes {} to {}", least, most),
         std::to_string(std::clamp(value, least, most)));
}

}  // namespace

void refuse(const char* key, int value, std::string_view name, std::string_view rule,
            std::string_view nearest) {
  throw RecipeError(
      fmt::format("{} = {}: {} {}; the nearest that works: {}", key, value, name, rule, nearest));
}

void require_counts(const ScheduleOptions& options, std::string_view name, int chunks) {
  require_between(options.positions_key, options.positions, name, 1, kMostPositions);
  require_between(options.microbatches_key, options.microbatches, name, 1, kMostMicrobatches);
  require_between(options.chunks_key, options.chunks, name, 0, kMostChunks);
  if (options.chunks != 0 && options.chunks != chunks)
    refuse(options.chunks_key, options.chunks, name,
           fmt::format("has {} at each position, always", chunks), std::to_string(chunks));
  const int most = kMostPasses / (options.positions * chunks);
  if (options.microbatches > most)
    refuse(options.microbatches_key, options.microbatches, name,
           fmt::format("takes {} at most with {} positions of {} chunks: {} passes in all", most,
                       options.positions, chunks, kMostPasses),
           std::to_string(most));
}

std::string nearest_multiples(int value, int unit, int least) {
  if (value <= least) return std::to_string(least);
  const int below = value / unit * unit;
  return fmt::format("{} or {}", below, below + unit);
}

Schedule empty_schedule(std::string_view name, const ScheduleOptions& options, int chunks,
                        int (*stage_of)(int position, int chunk, int positions)) {
  Schedule schedule;
  schedule.name = name;
  schedule.num_microbatches = options.microbatches;
  schedule.num_stages = options.positions * chunks;
  schedule.slots.resize(options.positions);
  for (int position = 0; position < options.positions; ++position) {
    std::vector<Chunk>& held = schedule.chunks.emplace_back();
    for (int chunk = 0; chunk < chunks; ++chunk)
      held.push_back({.stage = stage_of(position, chunk, options.positions)});
  }
  return schedule;
}

int stage_in_rounds(int position, int chunk, int positions) { return chunk * positions + position; }

int stage_in_v(int position, int chunk, int positions) {
  return chunk == 0 ? position : 2 * positions - 1 - position;
}

}  // namespace strait
