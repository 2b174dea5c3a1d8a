// parallel/program/execute.h: the CPU executor. The calling thread runs the compute lane in program
// order; transfers are queued on the Comm's lanes at once and start when the tasks they wait for
// are done. One dull loop for every program.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/comm/comm.h"
#include "parallel/program/task.h"

namespace strait {

// What the kinds of a program do.
struct Bindings {
  std::function<void(const Task&)> compute;
  // Called on the communication thread when the task's turn has come; null: nothing to wait for.
  std::function<OperationPtr(const Task&)> transfer;
  // Called before the compute thread sleeps: `task` cannot start before `transfer` is over; at the
  // program's end both are the transfer. May be null.
  std::function<void(const Task& task, const Task& transfer)> waits = {};
};

struct ExecutionTimes {
  double total_seconds = 0;
  double waiting_seconds = 0;   // the compute thread stood still for a transfer
  double transfer_seconds = 0;  // sum over transfers, from start to finish
};

// When a task ran, in nanoseconds of the host's steady clock, and the payload that a transfer sent.
struct TaskSpan {
  int64_t start_ns = 0, end_ns = 0, bytes = 0;
};

struct ExecuteOptions {
  std::vector<TaskSpan>* spans = nullptr;  // where given, gets one for each task
  bool overlap = true;  // false: each task waits for the one before it in the list; to compare with
};

// What an exception also is that a task of this rank has thrown.
class ThrownByTask {
 public:
  virtual ~ThrownByTask() = default;
};

// Runs the program once. Returns when every task is done; throws the first exception of any, a
// ThrownByTask with the task in its text, after which the Comm is failed for good.
ExecutionTimes execute(const Program& program, Comm& comm, const Bindings& bindings,
                       const ExecuteOptions& options = {});

// Runs every task in order on this thread, for `meta` and for one rank. REQUIRES: transfers return
// null.
void execute_inline(const Program& program, const Bindings& bindings);

LinkLane link_lane(Lane lane);  // REQUIRES: not compute

}  // namespace strait
