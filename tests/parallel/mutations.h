// tests/parallel/mutations.h: every small change of a set of programs: what a validator has to
// notice.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "parallel/program/lower.h"
#include "parallel/program/task.h"

namespace strait {

enum class Mutation : uint8_t {
  drop,
  repeat,
  retarget,
  resize,
  swap_neighbours,
  drop_edge,
  reorder_collectives
};
inline constexpr int kNumMutations = 7;
const char* name_of(Mutation mutation);

// One change of one position's program; `variant` counts the ways to change this task.
struct Change {
  Mutation mutation = Mutation::drop;
  int position = 0, task = 0;
  int other = 0;    // swapped with this one, or the edge's place in `after`
  int variant = 0;  // of retarget and resize
};

// All changes there are, in a fixed order.
std::vector<Change> all_changes(const StepShape& shape, std::span<const Program> programs);
Program changed(const StepShape& shape, std::span<const Program> programs, const Change& change);
std::string to_string(const Change& change, std::span<const Program> programs);

}  // namespace strait
