// parallel/comm/operation.h: what a lane runs, and how several steps become one operation.
#pragma once

#include <functional>
#include <memory>
#include <vector>

namespace strait {

// One piece of communication. The communication thread calls poll() when the operation has reached
// the head of its lane and its `after` events are done, and then again until it returns true.
class Operation {
 public:
  virtual ~Operation() = default;
  // Starts it at the first call. Returns true when finished; must not block, and should not compute
  // for longer than about a millisecond, because the other lanes wait meanwhile. Throws CommError.
  virtual bool poll() = 0;
};

using OperationPtr = std::unique_ptr<Operation>;

// A step is made when the one before it has finished, on the communication thread: it can read what
// that one received, allocate, and return the next operation, or null when it has nothing to wait
// for.
using Step = std::function<OperationPtr()>;
OperationPtr sequence(std::vector<Step> steps);

// All at the same time; finished when all are. REQUIRES: no two of them use the same channel.
OperationPtr together(std::vector<OperationPtr> operations);

}  // namespace strait
