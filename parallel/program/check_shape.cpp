#include "parallel/program/check_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/errors.h"

namespace strait {
namespace {

template <typename... Values>
[[noreturn]] void refuse(fmt::format_string<Values...> text, Values&&... values) {
  throw RecipeError("[lower] " + fmt::format(text, std::forward<Values>(values)...));
}

void check_stages(const StepShape& shape) {
  const int num_layers = static_cast<int>(shape.layer_is_moe.size());
  const int num_stages = static_cast<int>(shape.stages.size());
  if (num_stages > num_layers)
    refuse(
        "{} stages, but the model has {} layers; a stage needs at least one: use at most {} stages",
        num_stages, num_layers, num_layers);
  int next = 0;
  for (int i = 0; i < num_stages; ++i) {
    const StageLayers& stage = shape.stages[static_cast<size_t>(i)];
    if (stage.first_layer != next || stage.end_layer <= stage.first_layer)
      refuse("stage {} has layers [{}, {}); it must begin at {} and have at least one", i,
             stage.first_layer, stage.end_layer, next);
    if (stage.embeds != (i == 0)) refuse("stage {}: the first stage, and no other, embeds", i);
    if (stage.has_head != (i + 1 == num_stages))
      refuse("stage {}: the last stage, and no other, has the head", i);
    next = stage.end_layer;
  }
  if (next != num_layers) refuse("the stages have {} layers, the model {}", next, num_layers);
}

// Every bucket has its copies where it says, and they say the same.
void check_copies(const StepShape& shape) {
  const int num_positions = static_cast<int>(shape.buckets.size());
  const auto bucket_on = [&](int position, const std::string& name) -> const BucketShape* {
    for (const BucketShape& bucket : shape.buckets[static_cast<size_t>(position)])
      if (bucket.name == name) return &bucket;
    return nullptr;
  };
  for (int position = 0; position < num_positions; ++position) {
    std::set<std::string> names;
    for (const BucketShape& bucket : shape.buckets[static_cast<size_t>(position)]) {
      if (!names.insert(bucket.name).second)
        refuse("position {} has two buckets named '{}'", position, bucket.name);
      if (bucket.layers.empty())
        refuse("bucket '{}' of position {} belongs to no layer", bucket.name, position);
      std::set<int> members(bucket.positions.begin(), bucket.positions.end());
      if (members.size() != bucket.positions.size() || !members.insert(position).second)
        refuse("bucket '{}' of position {} names a position twice, or its own", bucket.name,
               position);
      for (const int other : bucket.positions) {
        const BucketShape* theirs =
            other >= 0 && other < num_positions ? bucket_on(other, bucket.name) : nullptr;
        if (theirs == nullptr)
          refuse("bucket '{}' of position {} has a copy on position {}, which does not have it",
                 bucket.name, position, other);
        std::set<int> their_members(theirs->positions.begin(), theirs->positions.end());
        their_members.insert(other);
        if (their_members != members)
          refuse("bucket '{}': positions {} and {} disagree about who has copies", bucket.name,
                 position, other);
      }
    }
  }
}

// The layers of a bucket are on its position; `head` counts as the layer whose output it takes.
void check_bucket_layers(const StepShape& shape, const Schedule& schedule) {
  for (int position = 0; position < schedule.num_positions(); ++position) {
    std::set<int> layers;
    for (const Chunk& chunk : schedule.chunks[static_cast<size_t>(position)]) {
      const StageLayers& stage = shape.stages[static_cast<size_t>(chunk.stage)];
      for (int layer = stage.first_layer; layer < stage.end_layer; ++layer) layers.insert(layer);
      if (stage.embeds) layers.insert(-1);
      if (stage.has_head) layers.insert(shape.num_hidden_layers - 1);
    }
    for (const BucketShape& bucket : shape.buckets[static_cast<size_t>(position)])
      for (const int layer : bucket.layers)
        if (!layers.contains(layer))
          refuse("bucket '{}' of position {} belongs to layer {}, which is not there", bucket.name,
                 position, layer);
  }
}

}  // namespace

void check_shape(const StepShape& shape) {
  const int num_layers = static_cast<int>(shape.layer_is_moe.size());
  if (shape.num_hidden_layers < 1 || num_layers < shape.num_hidden_layers ||
      num_layers > shape.num_hidden_layers + 1)
    refuse("{} hidden layers, but {} layers are described; there may be one MTP module more",
           shape.num_hidden_layers, num_layers);
  if (shape.waves < 1) refuse("waves = {}: at least 1", shape.waves);
  check_stages(shape);
  check_copies(shape);
}

void check_shape(const StepShape& shape, const Schedule& schedule) {
  const int num_layers = static_cast<int>(shape.layer_is_moe.size());
  if (schedule.num_stages > num_layers)
    refuse(
        "schedule {} has {} stages, but the model has {} layers; a stage needs at least one: use "
        "at "
        "most {} stages",
        schedule.name, schedule.num_stages, num_layers, num_layers);
  if (schedule.num_stages != static_cast<int>(shape.stages.size()))
    refuse("schedule {} has {} stages, the model is cut into {}", schedule.name,
           schedule.num_stages, shape.stages.size());
  check_shape(shape);
  if (schedule.num_positions() != static_cast<int>(shape.buckets.size()))
    refuse("schedule {} has {} positions, buckets are given for {}", schedule.name,
           schedule.num_positions(), shape.buckets.size());
  check_bucket_layers(shape, schedule);
}

}  // namespace strait
