// launch/trainer/agree.h: what the ranks do and decide together outside of programs: start,
// checkpoints, evaluation.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "core/errors.h"
#include "parallel/comm/comm.h"

namespace strait {

// The error was another rank's, and rank 0 reports it. Carries the exit code only.
class ReportedElsewhere : public Error {
 public:
  explicit ReportedElsewhere(int exit_code) : Error("reported by rank 0"), exit_code(exit_code) {}
  const int exit_code;
};

// The exit code an exception stands for: 1 bug, 2 recipe (or not enough memory for what it asks), 3
// data (or what the system refused), 4 peer, 5 numbers.
int exit_code_of(const std::exception& error);
// What is printed about it.
std::string message_of(const std::exception& error);

// Runs `work` on every rank. When it throws on any, it throws on all: rank 0 the error of the first
// rank that failed (same type, "rank 2: " before its text), the others ReportedElsewhere. So no
// rank waits for one that has given up. REQUIRES: called by all ranks; `work` does not communicate
// unless its own failure fails the Comm.
void together(Comm& comm, const std::function<void()>& work);

// `text` of one rank, on all ranks.
std::string from_rank(Comm& comm, Rank rank, const std::string& text);
inline std::string from_rank_zero(Comm& comm, const std::string& text) {
  return from_rank(comm, Rank{0}, text);
}

// The rank with the largest value; of several the first.
Rank rank_of_largest(Comm& comm, int64_t value);

void sum_over_ranks(Comm& comm, std::span<double> values);
void sum_over_ranks(Comm& comm, std::span<int64_t> values);

}  // namespace strait
