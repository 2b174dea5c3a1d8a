// parallel/program/validate.h: the proof that a set of programs is a training step, before a rank
// runs it.
//
// Proven: each piece of work happens once, on the position of its stage, with the lane, capacity
// and partners it should have, and after what it needs (step_work.h); messages between stages match
// in kind, micro-batch, layer and size, in order, a swap with a swap; members of a collective reach
// it in one order; edges point back in the list, because one thread issues a program in its order;
// and nothing deadlocks under the strictest semantics: every lane runs one task at a time in its
// order, every send waits for its receive, a collective starts when all its members have it at the
// head of their lane (happens_before.h). "After" may come about through other positions.
// Cost: linear in tasks; 100,000 tasks take about 60 ms on one core.
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

// Every rule that is broken, in a fixed order; empty: proven. With messages or collectives out of
// step, order is judged by each position's own program, and deadlock not at all. `with_boundary`:
// as in lower_step. REQUIRES: check_schedule has passed; the shape belongs to the schedule.
std::vector<Problem> validate(const StepShape& shape, const Schedule& schedule,
                              std::span<const Program> programs, bool with_boundary);

// What is run, or promised to run, has passed here first. Throws InternalError, with the first
// problems, when validate() finds any.
void require_proven(const StepShape& shape, const Schedule& schedule,
                    std::span<const Program> programs, bool with_boundary);

// Bytes a forward task leaves behind for its backward.
struct KeptBytes {
  int64_t until_input_gradient = 0;   // freed when the same phase's input gradient is done
  int64_t until_weight_gradient = 0;  // freed when its weight gradient is done
};
struct PeakUse {
  int64_t bytes = 0;  // most bytes alive at once
  int task = -1;      // where
  // Most chunks alive at once: between the start of a forward and the end of its backward, weight
  // gradients included.
  int microbatches = 0;
};
// Over the compute lane of one program. What a forward leaves counts from its start on.
PeakUse peak_use(const Program& program, const std::function<KeptBytes(const Task&)>& kept);

}  // namespace strait
