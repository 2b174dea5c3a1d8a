// parallel/program/validate.h: the proof that a set of programs is a training step, before a rank
// runs it.
//
// Proven: each piece of work happens once, on the position of its stage, and after what it needs;
// messages between stages match in kind, micro-batch, layer and size, in order; members of a
// collective reach it in one order; and nothing deadlocks under the strictest semantics: every lane
// runs one task at a time in its order, every send waits for its receive, a collective starts when
// all its members have it at the head of their lane.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"
#include "parallel/program/lower.h"

namespace strait {

struct Problem {
  int position = 0;
  int task = -1;     // index in that position's program; -1: something is missing
  std::string text;  // "[position 2] experts.F m3 l5 starts before dispatch.F m3 l5 has finished"
};

// Every rule that is broken, in a fixed order; empty: proven. `with_boundary`: as in lower_step.
std::vector<Problem> validate(const StepShape& shape, const Schedule& schedule,
                              std::span<const Program> programs, bool with_boundary);

// Bytes a forward task leaves behind for its backward.
struct KeptBytes {
  int64_t until_input_gradient = 0;   // freed when the same phase's input gradient is done
  int64_t until_weight_gradient = 0;  // freed when its weight gradient is done
};
struct PeakUse {
  int64_t bytes = 0;  // most bytes alive at once
  int task = -1;      // where
  int microbatches =
      0;  // most chunks alive at once: between the start of a forward and the end of its backward
};
// Over the compute lane of one program.
PeakUse peak_use(const Program& program, const std::function<KeptBytes(const Task&)>& kept);

}  // namespace strait
