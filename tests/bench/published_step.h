// tests/bench/published_step.h: DeepSeek-V3's step as programs: DualPipe over 16 positions, 120
// micro-batches of 4096 tokens.
#pragma once

#include <string>
#include <vector>

#include "parallel/pipeline/schedules.h"
#include "parallel/program/lower.h"

namespace strait {

struct PublishedStep {
  Schedule schedule;
  std::vector<Program> programs;
};

// Every stage has `layers_per_stage` MoE layers; the first also embeds, the last has the head.
inline PublishedStep published_step(int layers_per_stage, bool with_boundary) {
  constexpr int kPositions = 16, kMicrobatches = 120, kTokens = 4096, kExpertRanks = 64;
  const Schedule schedule =
      make_schedule("dualpipe", {.positions = kPositions, .microbatches = kMicrobatches});
  StepShape shape{.layer_is_moe = {},
                  .num_hidden_layers = kPositions * layers_per_stage,
                  .has_shared_experts = true,
                  .stages = {},
                  .buckets = {},
                  .exchange_lane = Lane::far,
                  .microbatch_rows = kTokens,
                  .exchange_capacity_rows = int64_t{kTokens} * kExpertRanks};
  shape.layer_is_moe.assign(static_cast<size_t>(shape.num_hidden_layers), true);
  for (int stage = 0; stage < kPositions; ++stage)
    shape.stages.push_back({.first_layer = stage * layers_per_stage,
                            .end_layer = (stage + 1) * layers_per_stage,
                            .embeds = stage == 0,
                            .has_head = stage == kPositions - 1});
  // A bucket for each layer of either stage of a position; the embedding and the head go with their
  // stage's.
  for (int position = 0; position < kPositions; ++position) {
    shape.buckets.emplace_back();
    for (const int stage : {position, kPositions - 1 - position})
      for (int layer = stage * layers_per_stage; layer < (stage + 1) * layers_per_stage; ++layer) {
        std::vector<int> layers = {layer};
        if (layer == 0) layers.push_back(-1);
        shape.buckets.back().push_back({.layers = std::move(layers),
                                        .name = "layer " + std::to_string(layer),
                                        .positions = {kPositions - 1 - position}});
      }
  }
  return {schedule, lower_step(shape, schedule, with_boundary)};
}

}  // namespace strait
