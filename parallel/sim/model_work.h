// parallel/sim/model_work.h: what the tasks of a training step take of any machine: the ops of each
// phase of a layer, the rows and bytes of each exchange, message and collective, and what stays in
// memory.
//
// Filled by launch/plan from a run on the `meta` device; turned into seconds by
// parallel/sim/price.h and into bytes by launch/plan/step_memory.h. Everything is of one rank, one
// micro-batch and even expert load.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <vector>

#include "core/context.h"
#include "core/memory.h"
#include "parallel/pipeline/stages.h"
#include "parallel/program/task.h"
#include "parallel/sim/cluster.h"

namespace strait {

struct TaskOp {
  Cost cost;
  Precision precision = Precision::bf16;  // of what is multiplied
};

// A phase of a layer, forward or a part of backward. `combine` stands for what compute does at a
// layer's end: the sum that is the layer's output, and what becomes of that sum's gradient. It is a
// part of the task that follows (the next layer's attention, or the head).
struct PhaseWork {
  std::vector<TaskOp> ops;
  MemoryUse left;  // bytes it leaves behind, less what it frees
  MemoryUse peak;  // at the moment it holds most in all, above what was there before
};

struct PhaseKey {
  Kind kind = Kind::embed;
  int layer = -1;  // of the measured model
  Pass pass = Pass::forward;
  // clang-tidy 14 takes the 0 that the comparison is compared with for a pointer.
  // NOLINTNEXTLINE(modernize-use-nullptr)
  friend auto operator<=>(const PhaseKey&, const PhaseKey&) = default;
};

// dispatch and combine of one layer, one way.
struct ExchangeBytes {
  double row = 0;   // of one token's row
  double pair = 0;  // besides, for each (token, expert) pair: ids and weights
};

// A bucket of the shard layout on one position.
struct BucketWork {
  int64_t numel = 0;
  DType dtype = DType::f32;  // of its weights as they are gathered
  int64_t weight_bytes = 0;  // of those kept like that: in FP8, linear layers keep only codes
  int64_t packed_bytes = 0;  // of what GEMMs read in their place
  int64_t replicas = 1;      // ranks that hold a copy, all positions with a copy counted
  int64_t replicas_per_node = 1;
};

struct ModelWork {
  Precision precision = Precision::bf16;
  int64_t tokens = 0;  // of a micro-batch
  int64_t top_k = 0;
  int64_t hidden_size = 0;
  int64_t moments_bytes = 4;  // of one element of one of the optimizer's two moments

  std::map<PhaseKey, PhaseWork> phases;
  int num_hidden_layers = 0;
  std::vector<int>
      like;  // of each layer, MTP module last: the layer of the measured model that costs the same
  std::vector<StageLayers> stages;

  // An expert group spans `expert_nodes` nodes of `expert_ranks / expert_nodes` ranks. A token's
  // row goes to `ranks_of_token` of the ranks and `nodes_of_token` of the nodes: to those that have
  // experts for it, once in each wave that has (parallel/expert/expected_route.h).
  int64_t expert_ranks = 1, expert_nodes = 1;
  double ranks_of_token = 1, nodes_of_token = 1;
  bool two_tier = false;  // a row goes to each node once and there to the ranks, or to each rank
                          // from its source
  int exchange_chunks =
      1;  // of an exchange on two tiers: one hop of one under the other of the next
  std::map<std::pair<Kind, Pass>, ExchangeBytes> exchanges;
  double message_row_bytes = 0;    // of one token between stages
  bool stages_share_node = false;  // neighbouring positions are on one node

  std::vector<std::vector<BucketWork>> buckets;  // [position][bucket]

  // Empty work where the measured model has none. layer -1: the embedding.
  const PhaseWork& phase(Kind kind, int layer, Pass pass) const;
  int like_layer(int layer) const { return layer < 0 ? -1 : like[static_cast<size_t>(layer)]; }
  bool is_moe(int layer) const;
  // The layer whose end (Kind::combine's compute) is a part of a forward or input-gradient task, or
  // -1: attention and head end the layer before them; where a stage ends without a head, the
  // layer's own MLP or experts do.
  int ends_layer(const Task& task) const;
};

}  // namespace strait
