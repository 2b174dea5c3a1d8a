// launch/engine/step_layout.h: what all ranks of a run know before any of them builds its part: the
// schedule, who holds which layers, and the shape of a step's programs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/nn/model.h"
#include "launch/engine/engine.h"
#include "parallel/pipeline/schedule.h"

namespace strait {

// The part of a position with these chunks.
ModelPart part_of(const std::vector<StageLayers>& stages, const std::vector<Chunk>& chunks);
// Fills in BucketShape::positions: buckets of one name are one bucket of all who hold it.
void find_copies(std::vector<std::vector<BucketShape>>& buckets);

struct StepLayout {
  Schedule schedule;
  StepShape shape;
  std::vector<ModelPart> parts;  // [position]
};

// Of EngineSettings: schedule, chunks, pairs, num_microbatches. Errors: RecipeError when it cannot
// be made.
Schedule step_schedule(const EngineSettings& settings, const Mesh& mesh);

// REQUIRES: settings.stages as EngineSettings says. Errors: RecipeError when the schedule cannot be
// made. The same on all ranks.
StepLayout step_layout(const EngineSettings& settings, const Mesh& mesh, Lane exchange_lane);

// The ranks that hold a copy of each bucket that `position_of(rank)` shares with other positions,
// by the bucket's name: of each of these positions those that hold the same experts, or all.
std::map<std::string, Group> shared_groups(const StepShape& shape, const Mesh& mesh, Rank rank,
                                           const std::vector<Bucket>& buckets);

}  // namespace strait
