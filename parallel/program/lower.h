// parallel/program/lower.h: from a schedule to programs: chunks -> phases -> tasks -> passes, all
// pure functions.
//
// A chunk's slot becomes the phases of its layers in order; a pair's two slots are interleaved
// layer by layer in the order of DeepSeek's published trace, so that one's exchanges run under the
// other's compute. Passes then add what is not a layer's own: exchanges, messages between stages,
// gradient buckets, the boundary. Each pass is a file of passes/. Source of the order: DeepSeek-V3
// report, section 3.2.1, figure 4.
#pragma once

#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/stages.h"
#include "parallel/program/task.h"

namespace strait {

struct BucketShape {
  // Layers of this position whose tasks read its weights and add to its gradients; -1: `embed`.
  // `head` counts as the layer whose output it takes. A bucket is packed before the first of them
  // and reduced after the last.
  std::vector<int> layers{};
  std::string name{};  // the same on every position that shares the bucket; unique on one position
  std::vector<int>
      positions{};  // other positions with a copy (DualPipe's mirror, a shared embedding)
};

// What programs need to know of the model, the cut into stages and the shard layout.
struct StepShape {
  std::vector<bool> layer_is_moe{};  // hidden layers, then the MTP module if there is one
  int num_hidden_layers = 0;
  bool has_shared_experts = false;
  std::vector<StageLayers> stages{};                // one per stage of the schedule
  std::vector<std::vector<BucketShape>> buckets{};  // [position]
  Lane exchange_lane = Lane::near;                  // far when expert groups span hosts
  bool exchanges = true;               // false: one rank holds all experts, nothing is sent
  int64_t microbatch_rows = 0;         // tokens of a micro-batch: rows of a message between stages
  int64_t exchange_capacity_rows = 0;  // tokens of a micro-batch times ranks of an expert group
  int waves = 1;                       // parts that a layer's experts are exchanged and run in

  bool has_mtp() const { return static_cast<int>(layer_is_moe.size()) > num_hidden_layers; }
};

// One program per position. The boundary of the step before (gradient norm, commit, update, weight
// gathers, packing) comes first, unless `with_boundary` is false as in a run's first step; then the
// schedule, with one gradient reduction per bucket after its last contribution. REQUIRES:
// check_schedule has passed. Errors: RecipeError when the shape does not fit the schedule, or when
// a chunk does not take its micro-batches in order.
std::vector<Program> lower_step(const StepShape& shape, const Schedule& schedule,
                                bool with_boundary);
// The boundary alone: before checkpoints, evaluation and export.
std::vector<Program> lower_settle(const StepShape& shape);
// Weights only: gather and pack, after a checkpoint was loaded into the shards.
std::vector<Program> lower_load(const StepShape& shape);
// Forward and loss of one micro-batch, nothing kept; on one copy of every stage.
std::vector<Program> lower_evaluation(const StepShape& shape, const Schedule& schedule);

}  // namespace strait
