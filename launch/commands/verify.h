// launch/commands/verify.h: `strait verify`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/commands/ranks.h"

namespace strait {

struct VerifyOptions {
  std::string recipe;
  std::vector<std::string> overrides;  // "a.b=c"
  int64_t steps = 5;                   // compared one by one from the same state
  int64_t free_steps = 20;             // of a run from the start, printed and not gated
  RankOptions ranks{};
  bool json = false;
};

// Compares the layout it is started in with one rank (verify_run.h) and prints what it found on
// rank 0; of a recipe in FP8 twice, first in BF16, where gates are tight (JSON: a line for each).
// Returns the exit code: 0 when all gates held, 5 when not. Errors: RecipeError, DataError,
// NumericsError, CommError.
int run_verify(const VerifyOptions& options, Comm& comm);
int run_verify(const VerifyOptions& options);  // under mpirun, alone, or with local_ranks threads

}  // namespace strait
