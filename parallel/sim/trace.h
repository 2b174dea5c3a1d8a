// parallel/sim/trace.h: a step as time spans: one schema for what was simulated and what was
// measured.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/program/task.h"
#include "parallel/sim/simulate.h"

namespace strait {

struct Span {
  int rank = 0;  // pipeline position of a prediction; rank of a measured run
  Lane lane = Lane::compute;
  std::string name;  // as to_string(task): "attention.F m0 l3"
  std::string kind;  // name_of(task.kind)
  Pass pass = Pass::forward;
  int microbatch = -1, layer = -1, chunk = 0, pair = -1;
  double start_us = 0, end_us = 0;
  int64_t bytes = 0;  // payload sent
};

struct Trace {
  std::string title;
  bool predicted = true;
  std::vector<Span> spans;
  bool relative = false;  // times count a schedule's unit (a forward slot, say), not microseconds
};

Trace trace_of(std::string title, std::span<const Program> programs,
               const std::vector<std::vector<TaskCost>>& costs, const Simulation& simulation);

}  // namespace strait
