// tests/parallel/uneven_shapes.h: steps whose stages have unequal numbers of layers, by chance.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "parallel/program/lower.h"

namespace strait {

struct UnevenOptions {
  int more_layers = 0;  // hidden layers beyond one per stage
  int num_dense = 0;    // leading dense layers; the others are MoE
  bool mtp = false;
  bool mtp_alone = false;  // the last stage holds the MTP module only; REQUIRES: mtp, two stages
  bool shared_experts = true, exchanges = true;
  int waves = 1;
  unsigned seed = 0;  // 0: cut evenly; else by chance
};

namespace uneven_shapes {

inline std::vector<int> first_layers(int num_stages, int num_layers, unsigned seed) {
  std::vector<int> cuts;
  for (int stage = 1; stage < num_stages; ++stage) cuts.push_back(stage * num_layers / num_stages);
  if (seed != 0) {
    std::vector<int> all;
    for (int layer = 1; layer < num_layers; ++layer) all.push_back(layer);
    std::mt19937 random(seed);
    for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[random() % i]);
    std::copy_n(all.begin(), cuts.size(), cuts.begin());
    std::sort(cuts.begin(), cuts.end());
  }
  cuts.insert(cuts.begin(), 0);
  return cuts;
}

// One bucket per layer (experts have one of their own) and one for the head, shared by the copies
// of a stage; one for the embedding, which the MTP module's stage reads too.
inline void add_buckets(StepShape& shape, const Schedule& schedule) {
  const int mtp_layer = shape.has_mtp() ? shape.num_hidden_layers : -2;
  const auto layers_here = [&](int position) {
    std::vector<int> layers;
    for (const Chunk& chunk : schedule.chunks[static_cast<size_t>(position)]) {
      const StageLayers& stage = shape.stages[static_cast<size_t>(chunk.stage)];
      if (stage.embeds) layers.push_back(-1);
      for (int layer = stage.first_layer; layer < stage.end_layer; ++layer)
        if (layer == mtp_layer) layers.push_back(layer);
    }
    return layers;
  };
  shape.buckets.resize(static_cast<size_t>(schedule.num_positions()));
  for (int position = 0; position < schedule.num_positions(); ++position) {
    std::vector<BucketShape>& buckets = shape.buckets[static_cast<size_t>(position)];
    for (const Chunk& chunk : schedule.chunks[static_cast<size_t>(position)]) {
      std::vector<int> copies;
      for (int copy = 0; copy < schedule.num_copies; ++copy)
        if (copy != chunk.copy) copies.push_back(schedule.place_of(chunk.stage, copy).position);
      const StageLayers& stage = shape.stages[static_cast<size_t>(chunk.stage)];
      for (int layer = stage.first_layer; layer < stage.end_layer; ++layer) {
        const std::string name = "layer " + std::to_string(layer);
        buckets.push_back({.layers = {layer}, .name = name, .positions = copies});
        if (shape.layer_is_moe[static_cast<size_t>(layer)])
          buckets.push_back({.layers = {layer}, .name = name + " experts", .positions = copies});
      }
      if (!stage.has_head) continue;
      buckets.push_back(
          {.layers = {shape.num_hidden_layers - 1}, .name = "head", .positions = copies});
      if (shape.has_mtp()) buckets.back().layers.push_back(mtp_layer);
    }
    BucketShape embedding{.layers = layers_here(position), .name = "embedding"};
    if (embedding.layers.empty()) continue;
    for (int other = 0; other < schedule.num_positions(); ++other)
      if (other != position && !layers_here(other).empty()) embedding.positions.push_back(other);
    // Not at the same number everywhere.
    buckets.insert(buckets.begin() + position % static_cast<int>(buckets.size() + 1), embedding);
  }
}

}  // namespace uneven_shapes

inline StepShape uneven_shape(const Schedule& schedule, const UnevenOptions& options) {
  StepShape shape{.has_shared_experts = options.shared_experts,
                  .exchanges = options.exchanges,
                  .microbatch_rows = 64,
                  .exchange_capacity_rows = 512,
                  .waves = options.waves};
  const int num_stages = schedule.num_stages;
  shape.num_hidden_layers = num_stages + options.more_layers;
  const int num_layers = shape.num_hidden_layers + (options.mtp ? 1 : 0);
  for (int layer = 0; layer < num_layers; ++layer)
    shape.layer_is_moe.push_back(layer >= options.num_dense);
  std::vector<int> first =
      options.mtp_alone
          ? uneven_shapes::first_layers(num_stages - 1, shape.num_hidden_layers, options.seed)
          : uneven_shapes::first_layers(num_stages, shape.num_hidden_layers, options.seed);
  if (options.mtp_alone) first.push_back(shape.num_hidden_layers);
  first.push_back(num_layers);
  for (int stage = 0; stage < num_stages; ++stage)
    shape.stages.push_back({.first_layer = first[static_cast<size_t>(stage)],
                            .end_layer = first[static_cast<size_t>(stage) + 1],
                            .embeds = stage == 0,
                            .has_head = stage + 1 == num_stages});
  uneven_shapes::add_buckets(shape, schedule);
  return shape;
}

}  // namespace strait
