// parallel/pipeline/schedule_file.h: a schedule as text, to keep, to edit and to read again.
//
//   # a comment
//   schedule mine
//   micro-batches 4
//   copies 2                       of every stage; left out: 1
//   position 0 holds 0.0 1.1       stage.copy of its chunks, in order; 0 alone is 0.0
//   position 1 holds 1.0 0.1
//   position 0 runs F0.0 F2.1 F1.0 B2.1 F3.1&B0.0 B3.1 I1.0 W1.0
//   position 1 runs ...            work, micro-batch.chunk; & between the two of a pair
//
// One line of each kind per position, positions from 0. Stages are those named; micro-batch m of M
// belongs to copy m * copies / M.
#pragma once

#include <string>
#include <string_view>

#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/schedules.h"

namespace strait {

// REQUIRES: check_schedule has passed. The reader gives the same schedule back.
std::string schedule_text(const Schedule& schedule);

// Passes check_schedule. Errors: RecipeError, "mine.txt:9: position 1, slot 4 (B0.0): comes a
// second time; ..."; `file` is how messages call it.
Schedule parse_schedule(std::string_view text, const std::string& file);
Schedule read_schedule(const std::string& path);  // RecipeError also when it cannot be read
// The same; RecipeError also when it is not for so many positions, micro-batches or chunks (0:
// any).
Schedule read_schedule(const std::string& path, const ScheduleOptions& options);

// Where a schedule is named, "file:PATH" names the one in a file.
inline constexpr std::string_view kFileSchedule = "file:";
bool is_file_schedule(std::string_view name);
// make_schedule and require_schedule (schedules.h) that know such names too.
Schedule find_schedule(std::string_view name, const ScheduleOptions& options);
void require_found_schedule(std::string_view name, const ScheduleOptions& options);

}  // namespace strait
