#include "tests/parallel/step_shapes.h"

#include <fmt/format.h>

#include <map>

namespace strait {
namespace {

void add_to_bucket(std::vector<BucketShape>& buckets, const std::string& name, int layer) {
  for (BucketShape& bucket : buckets)
    if (bucket.name == name) return bucket.layers.push_back(layer);
  buckets.push_back({.layers = {layer}, .name = name});
}

}  // namespace

StepShape shape_for(const Schedule& schedule, const ShapeOptions& options) {
  std::vector<StageLayers> stages;
  int num_layers = 0;
  for (int stage = 0; stage < schedule.num_stages; ++stage) {
    const bool last = stage + 1 == schedule.num_stages;
    const int end = num_layers + (last && options.mtp_alone ? 1 : options.layers_per_stage);
    stages.push_back(
        {.first_layer = num_layers, .end_layer = end, .embeds = stage == 0, .has_head = last});
    num_layers = end;
  }
  StepShape shape;
  shape.num_hidden_layers = options.mtp ? num_layers - 1 : num_layers;
  shape.has_shared_experts = options.shared_experts;
  shape.exchanges = options.exchanges;
  shape.microbatch_rows = 64;
  shape.exchange_capacity_rows = 256;
  shape.waves = options.waves;
  for (int layer = 0; layer < num_layers; ++layer) shape.layer_is_moe.push_back(layer > 0);
  shape.stages = stages;
  shape.buckets.resize(static_cast<size_t>(schedule.num_positions()));
  std::map<std::string, std::vector<int>> holders;
  for (int position = 0; position < schedule.num_positions(); ++position) {
    std::vector<BucketShape>& buckets = shape.buckets[static_cast<size_t>(position)];
    for (const Chunk& chunk : schedule.chunks[static_cast<size_t>(position)]) {
      const StageLayers& stage = shape.stages[static_cast<size_t>(chunk.stage)];
      if (stage.embeds) add_to_bucket(buckets, "embedding", -1);
      for (int layer = stage.first_layer; layer < stage.end_layer; ++layer) {
        add_to_bucket(buckets, fmt::format("layer {}", layer), layer);
        add_to_bucket(buckets, fmt::format("norms of stage {}", chunk.stage), layer);
      }
      if (!stage.has_head) continue;
      for (int layer = shape.num_hidden_layers - 1; layer < num_layers; ++layer)
        add_to_bucket(buckets, "head", layer);
      if (options.mtp) add_to_bucket(buckets, "embedding", num_layers - 1);
    }
    for (const BucketShape& bucket : buckets) holders[bucket.name].push_back(position);
  }
  for (int position = 0; position < schedule.num_positions(); ++position)
    for (BucketShape& bucket : shape.buckets[static_cast<size_t>(position)])
      for (const int holder : holders[bucket.name])
        if (holder != position) bucket.positions.push_back(holder);
  return shape;
}

}  // namespace strait
