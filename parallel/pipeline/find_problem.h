// parallel/pipeline/find_problem.h: the first rule of check_schedule that a schedule breaks, and
// where.
#pragma once

#include <optional>
#include <string>

#include "parallel/pipeline/schedule.h"

namespace strait {

struct ScheduleProblem {
  int position = -1;       // -1: of the whole schedule
  int slot = -1;           // of that position; -1: none in particular
  bool of_chunks = false;  // what the position holds, not what it runs
  std::string text{};      // "B4.1 comes a second time; the first is slot 12"
};

std::optional<ScheduleProblem> find_problem(const Schedule& schedule);
// "position 3, slot 17 (B4.1): ..."
std::string to_string(const ScheduleProblem& problem, const Schedule& schedule);

}  // namespace strait
