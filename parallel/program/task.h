// parallel/program/task.h: a training step as data.
//
// A program is, for one pipeline position, a list of tasks on lanes. A lane runs its tasks in the order of the
// list; `after` names the tasks of other lanes that must have finished first. A task names what is done and to
// what, never a function: launch/ binds kinds to functions, and other readers time, check or draw the same list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strait {

// The order of operations. `near` and `far` are the exchanges inside a node and between nodes, `pipe` is stage to
// stage, `shard` the gradient and weight collectives.
enum class Lane : uint8_t { compute, near, far, pipe, shard, host };
inline constexpr int kNumLanes = 6;

enum class Kind : uint8_t {
  gradient_norm,     // squares of this rank's gradient shards
  commit,            // one agreement of all ranks: norm, losses, counts, non-finite values, stop request
  update,            // optimizer on this rank's shard of a bucket, selection bias
  gather_weights,    // every rank gets the whole bucket again
  pack_weights,      // into the order the GEMM reads
  embed,             // token rows
  attention,         // norm, MLA, norm, router; packs the rows that dispatch sends
  dispatch,          // token rows to the ranks of their experts
  shared,            // shared experts
  experts,           // routed experts of this rank
  combine,           // expert sums back to the tokens' rank
  mlp,               // a dense layer's MLP
  head,              // final norm, logits, loss and its gradient; layer tells main model or MTP module
  reduce_gradients,  // sum of a bucket over its replicas; each rank gets its shard
};

enum class Pass : uint8_t { forward, input_gradient, weight_gradient };

struct Task {
  Kind kind;
  Pass pass = Pass::forward;
  Lane lane = Lane::compute;
  int microbatch = -1;
  int layer = -1;   // num_hidden_layers is the MTP module
  int bucket = -1;  // of the shard layout
  int64_t capacity_rows = 0;  // most rows an exchange or the experts may have to hold
  std::vector<int> after{};   // indices of tasks in other lanes
};

struct Program {
  std::vector<Task> tasks;
  int num_microbatches = 0;
};

const char* name_of(Lane lane);
const char* name_of(Kind kind);
std::string to_string(const Task& task);        // "attention.F m0 l3"
std::string to_string(const Program& program);  // one line per task

}  // namespace strait
