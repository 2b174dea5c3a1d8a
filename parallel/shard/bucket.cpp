#include "parallel/shard/bucket.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace strait {
namespace {

constexpr int64_t kUnitRows = 128;

// The last layer backward reaches that adds to a parameter's gradient.
std::map<const Parameter*, int> last_layers(const Model& model) {
  std::map<const Parameter*, int> last;
  for (size_t index = 0; index < model.layers.size(); ++index) {
    const LayerParameters& layer = model.layers[index];
    const AttentionParameters& a = layer.attention;
    for (const Parameter* parameter :
         {a.input_norm, a.q, a.q_a, a.q_a_norm, a.q_b, a.kv_a, a.kv_a_norm, a.kv_b, a.o, a.mlp_norm,
          layer.mlp.gate_up, layer.mlp.down, layer.router, layer.experts_gate_up,
          layer.experts_down})
      if (parameter != nullptr) last[parameter] = static_cast<int>(index);
  }
  const int head_layer = static_cast<int>(model.settings.num_hidden_layers) - 1;
  last[model.norm] = head_layer;
  last[model.head] = head_layer;
  if (model.mtp) {
    for (const Parameter* parameter : {model.mtp->embedding_norm, model.mtp->hidden_norm,
                                       model.mtp->projection, model.mtp->norm})
      last[parameter] = head_layer + 1;
  }
  last[model.embedding] = -1;  // also when it is the head
  return last;
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

std::vector<Bucket> build_buckets(Context& ctx, Model& model, const ShardOptions& options) {
  const std::map<const Parameter*, int> last = last_layers(model);
  // Compute-dtype parameters: one bucket per layer and replica group. FP32 ones beside BF16 (norms,
  // router) are small: one bucket for all, complete when the first layer's backward is.
  using Key = std::tuple<int, Replicas, DType>;
  std::vector<Key> order;
  std::map<Key, Bucket> by_key;
  for (const auto& parameter : model.parameters) {
    const bool small = parameter->dtype != model.compute;
    const int layer = small ? 0 : last.at(parameter.get());
    const Key key{layer, parameter->replicas, parameter->dtype};
    if (!by_key.contains(key)) {
      order.push_back(key);
      by_key[key] = {
          .replicas = parameter->replicas, .dtype = parameter->dtype, .last_layer = layer};
    }
    Bucket& bucket = by_key[key];
    bucket.entries.push_back({parameter.get(), bucket.numel});
    bucket.numel += parameter->shape.numel();
  }
  std::vector<Bucket> buckets;
  for (const Key& key : order) {
    Bucket& bucket = by_key[key];
    const ReplicaPlace& place = bucket.replicas == Replicas::expert ? options.expert : options.data;
    bucket.bounds = cut(bucket, place.size);
    bucket.my_index = place.index;
    allocate(ctx, bucket, options);
    buckets.push_back(std::move(bucket));
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
