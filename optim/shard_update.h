// optim/shard_update.h: AdamW on one rank's shard of a bucket.
#pragma once

#include "core/ops/adamw.h"
#include "parallel/shard/bucket.h"

namespace strait {

// Updates master and moments of the shard from its summed gradients and writes the new weights into
// the bucket's own range. Weight decay is applied to matrices only: not to norms, not to the
// embedding. step.weight_decay is that of the decayed parameters.
void update_shard(Context& ctx, Bucket& bucket, AdamWStep step);

// Copies the masters into the bucket's own range of weights, after they were loaded or initialised.
void publish_masters(Context& ctx, Bucket& bucket);

}  // namespace strait
