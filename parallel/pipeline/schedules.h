// parallel/pipeline/schedules.h: the schedules Strait knows, by name.
//
// Each is a pure function in a file of its own, <name>.cpp. A new one is such a file, a line here
// and a line in schedules.cpp. Times in the comments are of one slot: F forward, B whole backward,
// W its weight-gradient part, FB a pair; R positions, M micro-batches, at least R of them where
// nothing else is said. A bubble is what a position idles until the last one has finished. "Live"
// counts the chunks' activations that a position holds at once.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "parallel/pipeline/schedule.h"

namespace strait {

// Larger ones are refused: beyond any pipeline, and lists of slots have to fit a laptop's memory.
inline constexpr int kMostPositions = 1 << 10, kMostMicrobatches = 1 << 20, kMostChunks = 1 << 8;
inline constexpr int kMostPasses = 1 << 22;  // positions x micro-batches x chunks

struct ScheduleOptions {
  int positions = 1;
  int microbatches = 1;
  int chunks = 0;  // per position; 0: what the schedule has by itself
  // How the three are called where the user set them; for messages.
  const char* positions_key = "positions";
  const char* microbatches_key = "micro_batches";
  const char* chunks_key = "chunks";
};

// All schedules throw RecipeError, with the key, the rule and the nearest setting that works, when
// the options do not fit; require_<name> does only that. What they return passes check_schedule.

// Warm-up of R - 1 - r forwards, then one forward, one backward. Bubble (R - 1)(F + B), at most R
// live. One position: F0 B0 F1 B1 ...   Source: PipeDream-Flush, arXiv 2006.09503.
Schedule schedule_1f1b(const ScheduleOptions& options);
void require_1f1b(const ScheduleOptions& options);
// v >= 2 chunks a position, stage c * R + r is chunk c of position r; M a multiple of R. Bubble (R
// - 1)(F + B), where F and B are of a chunk, hence 1/v of what 1f1b has.   Source: Megatron-LM,
// arXiv 2104.04473, section 2.2.
Schedule schedule_interleaved(const ScheduleOptions& options);
void require_interleaved(const ScheduleOptions& options);
// 1f1b with the weight gradients taken out of the critical path, position r's r micro-batches late
// (ZB-H1). Bubble (R - 1)(F + B - W - min(F, B - W, W)), so (R - 1)(F + B - 2W) where W is the
// shortest; at most R live, freed after W. Source: Zero Bubble, arXiv 2401.10241, section 2.3.
Schedule schedule_zb1p(const ScheduleOptions& options);
void require_zb1p(const ScheduleOptions& options);
// Two chunks a position, stages r and 2R - 1 - r. No bubble beyond the ramp when F = B - W = W and
// M >= 2R - 1; at most 2R live.   Source: Pipeline Parallelism with Controllable Memory, arXiv
// 2405.15362.
Schedule schedule_zbv(const ScheduleOptions& options);
void require_zbv(const ScheduleOptions& options);
// Two copies of every stage, r and R - 1 - r at position r; half of the micro-batches enter at each
// end. R even, M even, M >= 2R. Bubble (R/2 - 1)(FB + B - 3W) when FB = F + B and F = B - W; at
// most R + 1 live.   Source: DeepSeek-V3 report, section 3.2.1.
Schedule schedule_dualpipe(const ScheduleOptions& options);
void require_dualpipe(const ScheduleOptions& options);
// The same in a V: stages r and 2R - 1 - r at position r, one copy of each. M >= 2R. Bubble (R -
// 1)(FB + B - 3W) as above, at most 2R + 1 live.   Source: the DualPipe repository of DeepSeek,
// DualPipeV.
Schedule schedule_dualpipev(const ScheduleOptions& options);
void require_dualpipev(const ScheduleOptions& options);

std::vector<std::string> schedule_names();
// RecipeError also for a name that is not one of schedule_names().
Schedule make_schedule(std::string_view name, const ScheduleOptions& options);
// Throws what make_schedule would, and makes nothing.
void require_schedule(std::string_view name, const ScheduleOptions& options);

}  // namespace strait
