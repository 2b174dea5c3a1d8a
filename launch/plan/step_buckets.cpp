#include "launch/plan/step_buckets.h"

#include <algorithm>

#include "launch/engine/step_layout.h"

namespace strait {
namespace {

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

BucketWork work_of(const BucketSettings& settings, const Model& model, const Bucket& bucket,
                   int64_t copies) {
  BucketWork work{.dtype = bucket.dtype};
  for (const BucketEntry& entry : bucket.entries) {
    const Parameter& parameter = *entry.parameter;
    work.numel += parameter.shape.numel();
    if (!is_fp8(parameter, settings))
      work.weight_bytes += parameter.shape.numel() * static_cast<int64_t>(size_of(parameter.dtype));
    const bool multiplies = parameter.role == Role::linear ||
                            parameter.role == Role::expert_stack || &parameter == model.head;
    if (multiplies) work.packed_bytes += packed_bytes(parameter, settings);
  }
  const bool experts = bucket.replicas == Replicas::expert;
  const int64_t here = experts ? settings.data / settings.expert : settings.data;
  const int64_t in_node = std::min(settings.ranks_per_node, settings.data);
  work.replicas = here * copies;
  work.replicas_per_node =
      experts ? std::clamp<int64_t>(in_node / settings.expert, 1, here) : in_node;
  return work;
}

}  // namespace

StepBuckets step_buckets(const BucketSettings& settings, const Schedule& schedule,
                         const std::vector<StageLayers>& stages) {
  StepBuckets result;
  std::vector<Model> models;  // [position]
  std::vector<std::vector<Bucket>> buckets;
  for (const std::vector<Chunk>& chunks : schedule.chunks) {
    const ModelPart part = part_of(stages, chunks);
    models.push_back(
        build_model(settings.model, {0, settings.model.n_routed_experts / settings.expert},
                    settings.precision == Precision::fp32 ? DType::f32 : DType::bf16, part));
    buckets.push_back(group_parameters(models.back(), part));
    std::vector<BucketShape>& shapes = result.shapes.emplace_back();
    for (const Bucket& bucket : buckets.back())
      shapes.push_back({.layers = bucket.layers, .name = bucket.name});
  }
  find_copies(result.shapes);
  for (size_t position = 0; position < buckets.size(); ++position) {
    std::vector<BucketWork>& work = result.work.emplace_back();
    for (size_t i = 0; i < buckets[position].size(); ++i)
      work.push_back(
          work_of(settings, models[position], buckets[position][i],
                  1 + static_cast<int64_t>(result.shapes[position][i].positions.size())));
  }
  return result;
}

}  // namespace strait
