// parallel/program/passes/waves.cpp: a layer's experts in n parts, so that a layer hides its own
// exchanges.
//
// Part k is the k-th stretch of each rank's experts, with the rows that go to them: while the
// experts of part k run, part k + 1 is on its way to them and part k - 1 on its way back. Parts are
// listed one behind the other; on the exchange lane all dispatches come before the first combine,
// so no part's rows wait behind results that are still being made. What is expected of a part is
// 1 / n of the rows, but its capacity is the layer's: every row may go to an expert of one part.
#include "parallel/program/passes/passes.h"

namespace strait {

Program split_into_waves(const StepShape& shape, Program program) {
  std::vector<Task> tasks;
  for (Task& task : program.tasks) {
    if (task.kind != Kind::experts) {
      tasks.push_back(std::move(task));
      continue;
    }
    task.num_parts = shape.waves;
    for (task.part = 0; task.part < shape.waves; ++task.part) tasks.push_back(task);
  }
  program.tasks = std::move(tasks);
  return program;
}

}  // namespace strait
