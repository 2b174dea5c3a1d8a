#include "launch/engine/step_layout.h"

#include <algorithm>
#include <set>

#include "parallel/pipeline/pairing.h"
#include "parallel/pipeline/schedule_file.h"

namespace strait {
namespace {

std::set<int> holders_of(const BucketShape& bucket, int position) {
  std::set<int> holders(bucket.positions.begin(), bucket.positions.end());
  holders.insert(position);
  return holders;
}

}  // namespace

ModelPart part_of(const std::vector<StageLayers>& stages, const std::vector<Chunk>& chunks) {
  ModelPart part{.layers = std::vector<bool>(static_cast<size_t>(stages.back().end_layer), false),
                 .embeds = false,
                 .has_head = false};
  for (const Chunk& chunk : chunks) {
    const StageLayers& stage = stages[static_cast<size_t>(chunk.stage)];
    for (int layer = stage.first_layer; layer < stage.end_layer; ++layer)
      part.layers[static_cast<size_t>(layer)] = true;
    part.embeds = part.embeds || stage.embeds;
    part.has_head = part.has_head || stage.has_head;
  }
  return part;
}

void find_copies(std::vector<std::vector<BucketShape>>& buckets) {
  std::map<std::string, std::vector<int>> holders;
  for (size_t position = 0; position < buckets.size(); ++position)
    for (const BucketShape& bucket : buckets[position])
      holders[bucket.name].push_back(static_cast<int>(position));
  for (size_t position = 0; position < buckets.size(); ++position) {
    for (BucketShape& bucket : buckets[position]) {
      bucket.positions = holders.at(bucket.name);
      std::erase(bucket.positions, static_cast<int>(position));
    }
  }
}

Schedule step_schedule(const EngineSettings& settings, const Mesh& mesh) {
  const Schedule schedule =
      find_schedule(settings.schedule, {.positions = mesh.pipeline_size(),
                                        .microbatches = static_cast<int>(settings.num_microbatches),
                                        .chunks = static_cast<int>(settings.chunks),
                                        .positions_key = "parallel.pipeline",
                                        .microbatches_key = "micro-batches",
                                        .chunks_key = "parallel.chunks"});
  return settings.pairs ? pair_schedule(schedule).schedule : schedule;
}

StepLayout step_layout(const EngineSettings& settings, const Mesh& mesh, Lane exchange_lane) {
  StepLayout layout{.schedule = step_schedule(settings, mesh), .shape = {}, .parts = {}};
  StepShape& shape = layout.shape;
  const LocalExperts experts{0, settings.model.n_routed_experts / mesh.expert_size()};
  const Model whole = build_model(settings.model, experts, settings.formats);
  for (const LayerParameters& layer : whole.layers) shape.layer_is_moe.push_back(layer.is_moe);
  shape.num_hidden_layers = static_cast<int>(settings.model.num_hidden_layers);
  shape.has_shared_experts = settings.model.n_shared_experts > 0;
  shape.stages = settings.stages;
  if (shape.stages.empty())
    shape.stages = {
        {.end_layer = static_cast<int>(whole.layers.size()), .embeds = true, .has_head = true}};
  STRAIT_CHECK(static_cast<int>(shape.stages.size()) == layout.schedule.num_stages,
               "EngineSettings::stages are not those of the schedule");
  shape.exchange_lane = exchange_lane;
  shape.exchanges = mesh.expert_size() > 1;
  // One rank exchanges nothing, so that its experts run at once.
  shape.waves = shape.exchanges ? settings.waves : 1;
  shape.microbatch_rows = settings.micro_batch * settings.sequence_length;
  shape.exchange_capacity_rows = shape.microbatch_rows * mesh.expert_size();
  for (const std::vector<Chunk>& chunks : layout.schedule.chunks) {
    const ModelPart part = part_of(shape.stages, chunks);
    const Model model = build_model(settings.model, experts, settings.formats, part);
    std::vector<BucketShape>& buckets = shape.buckets.emplace_back();
    for (const Bucket& bucket : group_parameters(model, part))
      buckets.push_back({.layers = bucket.layers, .name = bucket.name});
    layout.parts.push_back(part);
  }
  find_copies(shape.buckets);
  return layout;
}

std::map<std::string, Group> shared_groups(const StepShape& shape, const Mesh& mesh, Rank rank,
                                           const std::vector<Bucket>& buckets) {
  // Groups of different positions may share ranks: each set of positions has a number of its own.
  std::set<std::set<int>> sets;
  for (size_t position = 0; position < shape.buckets.size(); ++position)
    for (const BucketShape& bucket : shape.buckets[position])
      sets.insert(holders_of(bucket, static_cast<int>(position)));
  const MeshPosition here = mesh.position_of(rank);
  const std::vector<BucketShape>& shapes = shape.buckets[static_cast<size_t>(here.pipeline)];
  std::map<std::string, Group> groups;
  for (size_t i = 0; i < buckets.size(); ++i) {
    if (shapes[i].positions.empty()) continue;
    const bool experts = buckets[i].replicas == Replicas::expert;
    const std::set<int> holders = holders_of(shapes[i], here.pipeline);
    std::vector<Rank> ranks;
    for (const int position : holders) {
      MeshPosition other = here;
      other.pipeline = position;
      const Rank there = mesh.rank_at(other);
      const std::vector<Rank> more =
          experts ? mesh.replicas(there).ranks() : mesh.data(there).ranks();
      ranks.insert(ranks.end(), more.begin(), more.end());
    }
    const auto number = static_cast<int>(std::distance(sets.begin(), sets.find(holders)));
    groups.emplace(buckets[i].name, Group(GroupKind::custom, std::move(ranks), rank,
                                          2 * number + (experts ? 1 : 0)));
  }
  return groups;
}

}  // namespace strait
