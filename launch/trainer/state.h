// launch/trainer/state.h: an engine's state to and from a checkpoint, whatever layout wrote it.
#pragma once

#include <string>

#include "data/checkpoint/manifest.h"
#include "data/checkpoint/reader.h"
#include "launch/engine/engine.h"

namespace strait {

// Every tensor of the whole model with its Hugging Face shape, selection biases included, whatever
// part of it a rank holds.
checkpoint::ModelDescription describe_model(const ModelSettings& settings,
                                            const std::string& config_json);

// Writes master weights, moments and selection bias as <root>/step-<step>: every rank its shard,
// rank 0 the manifest. `manifest` has step, cursor, seed, recipe, model and extra; the shards are
// added. Collective. On any rank's failure nothing is published, earlier checkpoints stay, and all
// ranks throw. Returns the bytes of all files. REQUIRES: settled.
int64_t save_checkpoint(Engine& engine, Comm& comm, const std::string& root,
                        checkpoint::Manifest manifest);

// Fills this rank's shards and the selection bias and publishes the weights. Collective. All ranks
// throw when one does.
void load_checkpoint(Engine& engine, Comm& comm, checkpoint::Reader& reader);

}  // namespace strait
