// parallel/program/dataflow.h: which tasks of a program must have finished before another may
// start, by what it reads.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "parallel/program/lower.h"

namespace strait {

// An index of one program's tasks: valid as long as shape and program live unchanged.
class Dataflow {
 public:
  Dataflow(const StepShape& shape, const Program& program);

  // Indices of the tasks of other lanes whose results task `index` reads; in no order, and some may
  // follow from others. What it reads of tasks of its own lane is left out: a lane is in order. All
  // compute is on one lane.
  std::vector<int> needs(int index) const;

  // The task that makes the gradient of a layer's output for a micro-batch, or brings it from the
  // next stage; -1: none.
  int output_gradient(int microbatch, int layer) const;
  // The last task that adds to the gradients of a bucket's weights; -1: none.
  int last_contribution(const BucketShape& bucket) const;

 private:
  int find(Kind kind, Pass pass, int microbatch, int layer, int part = 0) const;
  int find_received(Pass pass, int microbatch, int layer) const;
  // The output of a layer, made here or received. Layer -1 is the embedding.
  std::vector<int> hidden(int microbatch, int layer) const;
  std::vector<int> all_parts(Kind kind, Pass pass, const Task& of) const;
  std::vector<int> forward_needs(const Task& task) const;
  std::vector<int> backward_needs(const Task& task) const;
  std::vector<int> transfer_needs(const Task& task) const;

  const StepShape& shape_;
  const Program& program_;
  std::unordered_map<uint64_t, int> tasks_;     // by kind, pass, micro-batch, layer or bucket, part
  std::unordered_map<uint64_t, int> received_;  // by pass, micro-batch, layer
  std::unordered_map<int, int> last_contribution_;  // by layer
};

}  // namespace strait
