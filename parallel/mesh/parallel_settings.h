// parallel/mesh/parallel_settings.h: what a recipe says about how the ranks share the work. The
// number of ranks itself comes from the launcher: world = pipeline x data, and expert groups lie
// inside data.
#pragma once

#include <cstdint>
#include <string>

#include "core/settings.h"

namespace strait {

// As `schedule`: chosen by the planner (launch/plan/choose_schedule.h).
inline constexpr const char* kAutoSchedule = "auto";

struct ParallelSettings {
  int64_t pipeline = 1;           // positions, each with a stretch of the layers
  int64_t expert = 1;             // ranks that share one set of routed experts
  std::string schedule = "1f1b";  // as parallel/pipeline/schedule_file.h finds it, or auto
  std::string cluster{};          // that "auto" is chosen for; recipes/cluster.h finds it
  int64_t chunks = 0;             // of a position; 0: what the schedule has by itself
  bool pairs = false;             // neighbouring forwards and backwards run as pairs
  int64_t waves = 1;              // parts that a layer's experts are exchanged and run in
  bool overlap = true;            // transfers run under compute
  // "flat": a token's row goes to every rank that holds one of its experts. "two_tier": once to
  // every node that does, and there to the ranks. "auto": two_tier where the two differ.
  std::string exchange = "auto";
  int64_t exchange_chunks = 4;  // that the rows of a two-tier exchange travel in
  // Room for what routed experts keep until backward, in multiples of the mean over ranks; what
  // does not fit is dispatched and computed again. 0: no limit.
  double routed_headroom = 0;
  // Of rows on their way to the experts, and their gradients; "auto": FP8 where experts are.
  std::string dispatch_wire = "auto";
  // Of expert sums and gradients between ranks; "auto": as train.precision. With "fp32" a step has
  // the same sums in every layout.
  std::string combine_wire = "auto";
  bool operator==(const ParallelSettings&) const = default;
};

const SettingsTable& table_of(const ParallelSettings*);

}  // namespace strait
