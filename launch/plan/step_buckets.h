// launch/plan/step_buckets.h: the buckets of the shard layout on every pipeline position, as shapes
// for lowering and as sizes for prices and memory.
//
// As in parallel/shard/bucket.h: a layer's parameters in the compute dtype make one bucket per
// replica group; the small FP32 ones of a position (norms, router) share one; embedding and head
// have their own. A bucket that several positions hold (DualPipe's two copies; the embedding of the
// first stage and of the MTP module) is summed and sharded over the ranks of all of them.
#pragma once

#include <vector>

#include "core/nn/model_settings.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/stages.h"
#include "parallel/program/lower.h"
#include "parallel/sim/model_work.h"

namespace strait {

struct BucketSettings {
  ModelSettings model;
  Precision precision = Precision::bf16;
  int64_t data = 1;  // ranks of a position
  int64_t expert = 1;
  int64_t ranks_per_node = 1;
  // Whether BF16 and FP32 GEMMs read packed copies of the weights, one per direction, as the CPU's
  // do. FP8 ones always read codes.
  bool packs_weights = true;
};

struct StepBuckets {
  std::vector<std::vector<BucketShape>> shapes;  // [position]
  std::vector<std::vector<BucketWork>> work;     // [position]
};

// `stages`: one per stage of the schedule. REQUIRES: check_schedule(schedule) has passed.
StepBuckets step_buckets(const BucketSettings& settings, const Schedule& schedule,
                         const std::vector<StageLayers>& stages);

}  // namespace strait
