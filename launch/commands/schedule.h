// launch/commands/schedule.h: `strait schedule`: a pipeline schedule in numbers, on a clock of its
// own.
#pragma once

#include <string>

namespace strait {

struct ScheduleCommandOptions {
  std::string name{}, file{};  // one of them: a schedule's name, or a file with one
  int ranks = 0;               // of the pipeline: its positions
  int microbatches = 0;
  int chunks = 0;  // per rank; 0: what the schedule has by itself
  std::string times = "F=1,B=2,W=1,FB=3";
  std::string stage_costs{};  // factors, one per stage
  bool pair = false;          // make pairs of neighbours first
  bool print = false;         // the slots too; then the whole output can be read again with `file`
  bool json = false;
};

// Prints makespan, bubble, share of chunks in pairs and peak live micro-batches, of the whole and
// per rank. Throws RecipeError that names the option.
int run_schedule(const ScheduleCommandOptions& options);

}  // namespace strait
