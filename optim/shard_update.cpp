#include "optim/shard_update.h"

#include <algorithm>

#include "core/ops/elementwise.h"

namespace strait {
namespace {

Tensor stretch(const Tensor& flat, int64_t begin, int64_t count) {
  return flat.view({flat.numel(), 1}).slice_rows(begin, count).view({count});
}

}  // namespace

void update_shard(Context& ctx, Bucket& bucket, AdamWStep step) {
  const double weight_decay = step.weight_decay;
  for (const BucketEntry& entry : bucket.entries) {
    const int64_t begin = std::max(entry.begin, bucket.shard_begin());
    const int64_t end = std::min(entry.begin + entry.parameter->shape.numel(), bucket.shard_end());
    if (begin >= end) continue;
    const int64_t count = end - begin, place = begin - bucket.shard_begin();
    AdamWTensors tensors{.gradient = stretch(bucket.gradients, begin, count),
                         .master = stretch(bucket.master, place, count),
                         .m = stretch(bucket.first_moment, place, count),
                         .v = stretch(bucket.second_moment, place, count),
                         .copy_f32 = {},
                         .copy_bf16 = {}};
    (bucket.dtype == DType::f32 ? tensors.copy_f32 : tensors.copy_bf16) =
        stretch(bucket.weights, begin, count);
    step.weight_decay = entry.parameter->decay ? weight_decay : 0;
    adamw(ctx, step, tensors);
  }
}

void publish_masters(Context& ctx, Bucket& bucket) {
  Tensor own = stretch(bucket.weights, bucket.shard_begin(), bucket.shard_size());
  cast(ctx, bucket.master, own);
}

}  // namespace strait
