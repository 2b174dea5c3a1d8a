// parallel/comm/stages.h: operations that run under each other within one operation.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/comm/comm.h"

namespace strait {

// Steps that start in order, at most `ahead` of them at a time. REQUIRES for ahead > 1: the steps
// do not read what the one before has received.
struct Stage {
  std::vector<Step> steps;
  int ahead = 1;
};
// Two stages as in a pipeline: step i of `second` starts when step i of `first` has finished.
// REQUIRES: as many steps in both, and no channel in both.
OperationPtr overlapped(Stage first, Stage second);

// Calls body(begin, end) for parts of [0, count), each of at most `most` items, one part per poll:
// the other lanes go on in between.
OperationPtr in_parts(const Channel& channel, int64_t count, int64_t most,
                      std::function<void(int64_t begin, int64_t end)> body);

}  // namespace strait
