// launch/commands/train.h: `strait train`.
#pragma once

#include <string>
#include <vector>

#include "launch/commands/ranks.h"

namespace strait {

struct TrainOptions {
  std::string recipe;
  std::vector<std::string> overrides;  // "a.b=c"
  std::string run_folder;              // empty: run.dir/run.name of the recipe
  int64_t traced_step = 0;             // counted from 1; 0: none
  bool dry_run = false;
  RankOptions ranks{};
  int planned_ranks = 0;  // of a dry run; 0: those that are there
  bool json = false;
};

// Returns the exit code: 0, or 143 after a stop request was served. Errors as Trainer.
// REQUIRES: this process has no other thread yet (see StopSignal).
int run_train(const TrainOptions& options);

}  // namespace strait
