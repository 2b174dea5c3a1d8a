// tests/parallel/brute_order.h: a judge of changed programs that shares nothing with the validator.
//
// Every task is a set of operands that it reads and writes. Two tasks conflict when one writes what
// the other reads or writes. A change is harmless when every position still has the same tasks, all
// conflicting tasks are ordered as before, by the full closure of happens-before, and nothing
// deadlocks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/program/lower.h"
#include "parallel/program/task.h"

namespace strait {

class BruteOrder {
 public:
  // The original. Throws std::logic_error when two of its conflicting tasks are in no order, or
  // when it deadlocks.
  BruteOrder(const StepShape& shape, std::vector<Program> original);

  // Empty: harmless; otherwise why not.
  std::string harm(std::span<const Program> changed) const;
  size_t num_conflicts() const { return conflicts_.size(); }

 private:
  struct Conflict {
    int first = 0,
        second =
            0;  // tasks of the original, counted over all positions; first happens before second
  };
  class Closure;

  const StepShape& shape_;
  std::vector<Program> original_;
  std::vector<Conflict> conflicts_;
};

}  // namespace strait
