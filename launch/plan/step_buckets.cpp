#include "launch/plan/step_buckets.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/nn/model.h"

namespace strait {
namespace {

constexpr int kEmbedding = -1;

// What a bucket is before anyone knows who holds it.
struct Content {
  std::vector<const Parameter*> parameters;
  Replicas replicas = Replicas::data;
};

// The layer a parameter's name says: "model.layers.12.mlp.gate" -> 12; -1: none.
int layer_of(const Parameter& parameter) {
  static const std::string kPrefix = "model.layers.";
  return parameter.name.starts_with(kPrefix) ? std::stoi(parameter.name.substr(kPrefix.size()))
                                             : -1;
}

// Whether GEMMs multiply codes of it.
bool is_fp8(const Parameter& parameter, const BucketSettings& settings) {
  const bool is_linear = parameter.role == Role::linear || parameter.role == Role::expert_stack;
  return settings.precision == Precision::fp8 && is_linear && parameter.dtype == DType::bf16 &&
         parameter.name != "lm_head";
}

// Bytes of what GEMMs read in place of the weights.
int64_t packed_bytes(const Parameter& parameter, const BucketSettings& settings) {
  // Codes for the products of both directions, with a scale for every 128 x 128 block.
  if (is_fp8(parameter, settings)) {
    const int64_t numel = parameter.shape.numel();
    return 2 * (numel + numel / (128 * 128) * 4);
  }
  if (!settings.packs_weights) return 0;
  Context ctx(Device::meta, 1);
  PackedWeight packed;
  packed.pack(ctx, ctx.empty(parameter.shape, parameter.dtype, Purpose::weights), parameter.dtype);
  return packed.bytes();
}

class Layout {
 public:
  Layout(const BucketSettings& settings, const Schedule& schedule,
         const std::vector<StageLayers>& stages)
      : settings_(settings),
        model_(build_model(settings.model, {0, settings.model.n_routed_experts / settings.expert},
                           settings.precision == Precision::fp32 ? DType::f32 : DType::bf16)) {
    for (const auto& chunks : schedule.chunks) {
      std::set<int>& layers = layers_.emplace_back();
      Ends& ends = ends_.emplace_back();
      for (const Chunk& chunk : chunks) {
        const StageLayers& stage = stages.at(static_cast<size_t>(chunk.stage));
        for (int layer = stage.first_layer; layer < stage.end_layer; ++layer) layers.insert(layer);
        ends.embeds |= stage.embeds;
        ends.has_head |= stage.has_head;
      }
    }
  }

  StepBuckets make() {
    StepBuckets buckets;
    std::vector<std::map<std::string, Content>> contents;
    for (size_t position = 0; position < layers_.size(); ++position)
      contents.push_back(contents_of(position));
    for (size_t position = 0; position < contents.size(); ++position) {
      buckets.shapes.emplace_back();
      buckets.work.emplace_back();
      for (const auto& [name, content] : contents[position]) {
        std::vector<int> others;
        for (size_t other = 0; other < contents.size(); ++other) {
          const auto same = contents[other].find(name);
          if (other == position || same == contents[other].end()) continue;
          others.push_back(static_cast<int>(other));
        }
        buckets.work.back().push_back(work_of(content, 1 + static_cast<int64_t>(others.size())));
        buckets.shapes.back().push_back(
            {.layers = layers_using(content, position), .name = name, .positions = others});
      }
    }
    return buckets;
  }

 private:
  struct Ends {
    bool embeds = false, has_head = false;
  };
  int num_hidden() const { return static_cast<int>(settings_.model.num_hidden_layers); }
  bool is_head(const Parameter& p) const { return &p == model_.head || &p == model_.norm; }

  // Names sort in an order of their own; any order is as good for pricing.
  std::map<std::string, Content> contents_of(size_t position) const {
    const std::set<int>& layers = layers_[position];
    const Ends& ends = ends_[position];
    // Small parameters of other positions with the same layers are the same bucket.
    const std::string small =
        fmt::format("small of layers {} to {}", *layers.begin(), *layers.rbegin());
    std::map<std::string, Content> contents;
    for (const auto& parameter : model_.parameters) {
      const int layer = layer_of(*parameter);
      std::string name;
      if (parameter.get() == model_.embedding) {
        const bool used_at_end =
            ends.has_head && (model_.has_mtp() || model_.head == model_.embedding);
        if (!ends.embeds && !used_at_end) continue;
        name = "embedding";
      } else if (layer < 0) {
        if (!ends.has_head) continue;
        name = parameter->dtype == model_.compute ? "head" : small;
      } else {
        if (!layers.contains(layer)) continue;
        name = parameter->dtype != model_.compute        ? small
               : parameter->replicas == Replicas::expert ? fmt::format("layer {} experts", layer)
                                                         : fmt::format("layer {}", layer);
      }
      Content& content = contents[name];
      content.parameters.push_back(parameter.get());
      content.replicas = parameter->replicas;
    }
    return contents;
  }

  std::vector<int> layers_using(const Content& content, size_t position) const {
    std::set<int> users;
    const int last = num_hidden() - 1;
    for (const Parameter* parameter : content.parameters) {
      if (parameter == model_.embedding) {
        if (ends_[position].embeds) users.insert(kEmbedding);
        if (ends_[position].has_head && model_.has_mtp()) users.insert(num_hidden());
      }
      if (is_head(*parameter) && ends_[position].has_head) {
        users.insert(last);
        if (parameter == model_.head && model_.has_mtp()) users.insert(num_hidden());
      }
      if (layer_of(*parameter) >= 0) users.insert(layer_of(*parameter));
    }
    return {users.begin(), users.end()};
  }

  BucketWork work_of(const Content& content, int64_t copies) const {
    BucketWork work{.dtype = content.parameters.front()->dtype};
    for (const Parameter* parameter : content.parameters) {
      work.numel += parameter->shape.numel();
      if (!is_fp8(*parameter, settings_))
        work.weight_bytes +=
            parameter->shape.numel() * static_cast<int64_t>(size_of(parameter->dtype));
      const bool multiplies = parameter->role == Role::linear ||
                              parameter->role == Role::expert_stack || parameter == model_.head;
      if (multiplies) work.packed_bytes += packed_bytes(*parameter, settings_);
    }
    const bool experts = content.replicas == Replicas::expert;
    const int64_t here = experts ? settings_.data / settings_.expert : settings_.data;
    const int64_t in_node = std::min(settings_.ranks_per_node, settings_.data);
    work.replicas = here * copies;
    work.replicas_per_node =
        experts ? std::clamp<int64_t>(in_node / settings_.expert, 1, here) : in_node;
    return work;
  }

  const BucketSettings& settings_;
  const Model model_;
  std::vector<std::set<int>> layers_;  // [position]
  std::vector<Ends> ends_;
};

}  // namespace

StepBuckets step_buckets(const BucketSettings& settings, const Schedule& schedule,
                         const std::vector<StageLayers>& stages) {
  return Layout(settings, schedule, stages).make();
}

}  // namespace strait
