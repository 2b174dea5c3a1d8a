// parallel/program/task.h: a training step as data.
//
// A program is, for one pipeline position, a list of tasks on lanes. A lane runs its tasks in the
// order of the list; `after` names the tasks of other lanes that must have finished first. A task
// names what is done and to what, never a function: launch/ binds kinds to functions, and other
// readers time, check or draw the same list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strait {

// The order of operations. `near` and `far` are the exchanges inside a node and between nodes,
// `pipe` is stage to stage, `shard` the gradient and weight collectives.
enum class Lane : uint8_t { compute, near, far, pipe, shard, host };
inline constexpr int kNumLanes = 6;

enum class Kind : uint8_t {
  gradient_norm,  // squares of this rank's gradient shards
  commit,  // one agreement of all ranks: norm, losses, counts, non-finite values, stop request
  update,  // optimizer on this rank's shard of a bucket, selection bias
  gather_weights,  // every rank gets the whole bucket again
  pack_weights,    // into the order the GEMM reads
  embed,           // token rows
  attention,       // norm, MLA, norm, router; packs the rows that dispatch sends
  dispatch,        // token rows to the ranks of their experts
  shared,          // shared experts
  experts,         // routed experts of this rank
  combine,         // expert sums back to the tokens' rank
  mlp,             // a dense layer's MLP
  head,  // final norm, logits, loss and its gradient; layer tells main model or MTP module
  reduce_gradients,  // sum of a bucket over its replicas; each rank gets its shard
  send,              // what crosses a stage boundary, to one neighbour
  receive,           // the same, from one neighbour
  swap,              // both at once with one neighbour, one grouped operation
};

enum class Pass : uint8_t { forward, input_gradient, weight_gradient };

// What crosses the boundary between two stages: the input of `layer` (forward) or the gradient of
// that input.
struct Message {
  int microbatch = -1;  // -1: no message
  Pass pass = Pass::forward;
  int layer = -1;  // the first layer of the later stage
  int64_t rows = 0;
  friend bool operator==(const Message&, const Message&) = default;
};

struct Task {
  Kind kind;
  Pass pass = Pass::forward;
  Lane lane = Lane::compute;
  int microbatch = -1;
  int layer = -1;   // num_hidden_layers is the MTP module
  int bucket = -1;  // of this position's shard layout
  int part = 0;  // of `num_parts`: which of the layer's waves of experts an exchange or the experts
                 // belong to
  int num_parts = 1;
  int chunk = 0;              // of the schedule: where the work comes from
  int pair = -1;              // number of the pair whose phases this task is interleaved with
  Message send{}, receive{};  // of send, receive and swap; `positions` names the other side
  int64_t capacity_rows =
      0;  // most rows an exchange or the experts may have to hold; parts do not divide it
  std::vector<int>
      positions{};           // other pipeline positions that run this task together with this one
  std::vector<int> after{};  // indices of tasks in other lanes
};

// What one pipeline position does in a step; its data columns share it.
struct Program {
  std::vector<Task> tasks{};
  int num_microbatches = 0;
  int position = 0;
};

const char* name_of(Lane lane);
const char* name_of(Kind kind);
std::string to_string(const Task& task);  // "attention.F m0 l3"; parts "experts.F m0 l3 2/4"
// One line per task: index, lane, task, chunk, pair, peers, capacity, edges.
std::string to_string(const Program& program);

}  // namespace strait
