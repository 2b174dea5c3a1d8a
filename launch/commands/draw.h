// launch/commands/draw.h: `strait draw`.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/sim/trace.h"

namespace strait {

struct DrawOptions {
  std::string
      trace;  // a file of a trace; with a cluster, a recipe whose planned step is drawn. Or:
  std::string cluster;                 // a cluster's file or name
  std::string task_times;              // as PlanOptions::task_times
  std::vector<std::string> overrides;  // of the recipe
  std::string schedule;                // a schedule's name, or a file with one
  int ranks = 0, microbatches = 0, chunks = 0;
  std::string times = "F=1,B=2,W=1,FB=3";
  std::string beside;                // another schedule, or another file of a trace
  std::string out, perfetto;         // where to; empty: not at all
  std::vector<std::string> compare;  // two files of traces
  int top = 20;                      // rows of each list of a comparison
  bool json = false;
};

// Draws a file of a trace or a schedule's slots, or compares two files. Returns the exit code.
// Errors: RecipeError, DataError.
int run_draw(const DrawOptions& options);

// Writes the page `out` of all traces, one below the other, and the file `perfetto` of the first,
// each unless its name is empty, and prints what was written and the sums of each trace. Errors:
// RecipeError when neither has a name, DataError.
void draw_traces(std::span<const Trace> traces, const std::string& out, const std::string& perfetto,
                 bool json);

}  // namespace strait
