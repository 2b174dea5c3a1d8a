// parallel/pipeline/schedule_rules.h: what several schedules ask of their options, and how refusals
// read.
#pragma once

#include <string>
#include <string_view>

#include "parallel/pipeline/schedules.h"

namespace strait {

// Throws RecipeError: "ranks = 7: dualpipe needs an even number, ...; the nearest that works: 6 or
// 8".
[[noreturn]] void refuse(const char* key, int value, std::string_view name, std::string_view rule,
                         std::string_view nearest);
// The schedule has so many chunks at a position: no others are asked for, positions and
// micro-batches are 1 at least, and nothing is larger than schedules.h allows.
void require_counts(const ScheduleOptions& options, std::string_view name, int chunks);
// The multiples of `unit` around `value`: "8", or "8 or 12"; none is below `least`, itself a
// multiple.
std::string nearest_multiples(int value, int unit, int least);

// An empty schedule: stage c of `chunks` at position r is `stage_of(r, c)`, one copy.
Schedule empty_schedule(std::string_view name, const ScheduleOptions& options, int chunks,
                        int (*stage_of)(int position, int chunk, int positions));
int stage_in_rounds(int position, int chunk, int positions);  // chunk c of position r: c * R + r
int stage_in_v(int position, int chunk, int positions);       // r, then 2R - 1 - r

}  // namespace strait
