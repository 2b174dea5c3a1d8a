#include "parallel/shard/bucket.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

namespace strait {
namespace {

constexpr int64_t kUnitRows = 128;

// The layers whose tasks read a parameter and add to its gradient.
std::map<const Parameter*, std::set<int>> users_of(const Model& model, const ModelPart& part) {
  std::map<const Parameter*, std::set<int>> users;
  const auto add = [&](const Parameter* parameter, int layer) {
    if (parameter != nullptr) users[parameter].insert(layer);
  };
  for (size_t index = 0; index < model.layers.size(); ++index) {
    const LayerParameters& layer = model.layers[index];
    const AttentionParameters& a = layer.attention;
    for (const Parameter* parameter :
         {a.input_norm, a.q, a.q_a, a.q_a_norm, a.q_b, a.kv_a, a.kv_a_norm, a.kv_b, a.o, a.mlp_norm,
          layer.mlp.gate_up, layer.mlp.down, layer.router, layer.experts_gate_up,
          layer.experts_down})
      add(parameter, static_cast<int>(index));
  }
  const int mtp_layer = static_cast<int>(model.settings.num_hidden_layers);
  if (part.embeds) add(model.embedding, -1);
  if (!part.has_head) return users;
  add(model.norm, mtp_layer - 1);
  add(model.head, mtp_layer - 1);
  if (!model.mtp) return users;
  for (const Parameter* parameter :
       {model.head, model.embedding, model.mtp->embedding_norm, model.mtp->hidden_norm,
        model.mtp->projection, model.mtp->norm})
    add(parameter, mtp_layer);
  return users;
}

// "0-3, 7": the layers that have parameters here.
std::string layers_text(const Model& model) {
  std::string text;
  const int count = static_cast<int>(model.layers.size());
  const auto here = [&](int layer) {
    return layer < count &&
           model.layers[static_cast<size_t>(layer)].attention.input_norm != nullptr;
  };
  for (int first = 0; first < count; ++first) {
    if (!here(first)) continue;
    int last = first;
    while (here(last + 1)) ++last;
    text += fmt::format("{}{}-{}", text.empty() ? "" : ", ", first, last);
    first = last;
  }
  return text;
}

// Ends shard i at the unit boundary nearest to i / R of the bucket.
std::vector<int64_t> cut(const Bucket& bucket, int num_shards) {
  std::vector<int64_t> ends;  // unit boundaries
  for (const BucketEntry& entry : bucket.entries) {
    const int64_t unit = kUnitRows * entry.parameter->num_cols();
    const int64_t numel = entry.parameter->shape.numel();
    for (int64_t end = std::min(unit, numel);; end = std::min(end + unit, numel)) {
      ends.push_back(entry.begin + end);
      if (end == numel) break;
    }
  }
  std::vector<int64_t> bounds{0};
  for (int shard = 1; shard < num_shards; ++shard) {
    const int64_t target = bucket.numel * shard / num_shards;
    const auto above = std::lower_bound(ends.begin(), ends.end(), target);
    int64_t bound = above == ends.end() ? bucket.numel : *above;
    if (above != ends.begin() && target - *std::prev(above) < bound - target)
      bound = *std::prev(above);
    bounds.push_back(std::max(bound, bounds.back()));
  }
  bounds.push_back(bucket.numel);
  return bounds;
}

void allocate(Context& ctx, Bucket& bucket, const ShardOptions& options) {
  bucket.weights = ctx.zeros({bucket.numel}, bucket.dtype, Purpose::weights);
  if (options.training) {
    const int64_t shard = bucket.shard_size();
    bucket.gradients = ctx.zeros({bucket.numel}, DType::f32, Purpose::gradients);
    bucket.master = ctx.zeros({shard}, DType::f32, Purpose::optimizer);
    bucket.first_moment = ctx.zeros({shard}, options.moments, Purpose::optimizer);
    bucket.second_moment = ctx.zeros({shard}, options.moments, Purpose::optimizer);
  }
  for (const BucketEntry& entry : bucket.entries) {
    Parameter& parameter = *entry.parameter;
    const auto stretch = [&](const Tensor& flat) {
      const int64_t numel = parameter.shape.numel();
      return flat.view({bucket.numel, 1}).slice_rows(entry.begin, numel).view(parameter.shape);
    };
    parameter.weight = stretch(bucket.weights);
    if (options.training) parameter.gradient = stretch(bucket.gradients);
  }
}

}  // namespace

std::vector<Bucket> group_parameters(const Model& model, const ModelPart& part) {
  const std::map<const Parameter*, std::set<int>> users = users_of(model, part);
  std::vector<Bucket> buckets;
  std::map<std::string, size_t> by_name;
  for (const auto& parameter : model.parameters) {
    const std::set<int>& layers = users.at(parameter.get());
    std::string name;
    if (parameter->dtype != model.compute) {
      name = "small of layers " + layers_text(model);
    } else if (parameter.get() == model.embedding) {
      name = "embedding";
    } else if (parameter.get() == model.head || parameter.get() == model.norm) {
      name = "head";
    } else {
      name = fmt::format("layer {}{}", *layers.begin(),
                         parameter->replicas == Replicas::expert ? " experts" : "");
    }
    const auto [found, is_new] = by_name.try_emplace(name, buckets.size());
    if (is_new)
      buckets.push_back({.name = name, .replicas = parameter->replicas, .dtype = parameter->dtype});
    Bucket& bucket = buckets[found->second];
    bucket.entries.push_back({parameter.get(), bucket.numel});
    bucket.numel += parameter->shape.numel();
    std::vector<int> all;
    std::set_union(bucket.layers.begin(), bucket.layers.end(), layers.begin(), layers.end(),
                   std::back_inserter(all));
    bucket.layers = std::move(all);
  }
  return buckets;
}

std::vector<Bucket> build_buckets(Context& ctx, Model& model, const ShardOptions& options) {
  std::vector<Bucket> buckets = group_parameters(model, options.part);
  for (Bucket& bucket : buckets) {
    const auto shared = options.shared.find(bucket.name);
    const ReplicaPlace& place = shared != options.shared.end()        ? shared->second
                                : bucket.replicas == Replicas::expert ? options.expert
                                                                      : options.data;
    bucket.bounds = cut(bucket, place.size);
    bucket.my_index = place.index;
    allocate(ctx, bucket, options);
  }
  return buckets;
}

std::vector<ShardPiece> pieces_of_range(const Bucket& bucket, int64_t begin, int64_t end) {
  std::vector<ShardPiece> pieces;
  for (const BucketEntry& entry : bucket.entries) {
    const Parameter& parameter = *entry.parameter;
    for (const Part& part : parameter.parts) {
      const int64_t first = entry.begin + part.row_begin * parameter.num_cols();
      const int64_t last = first + part.num_rows * parameter.num_cols();
      const int64_t from = std::max(begin, first), to = std::min(end, last);
      if (from < to) pieces.push_back({&part, &parameter, from - first, to - from, from - begin});
    }
  }
  return pieces;
}

std::vector<ShardPiece> pieces_of_shard(const Bucket& bucket) {
  return pieces_of_range(bucket, bucket.shard_begin(), bucket.shard_end());
}

}  // namespace strait
