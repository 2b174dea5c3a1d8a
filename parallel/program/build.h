// parallel/program/build.h: the programs of a one-stage pipeline, as pure functions of the model's layers.
#pragma once

#include <vector>

#include "parallel/program/task.h"

namespace strait {

// What a program needs to know of the model and its shard layout.
struct ProgramInput {
  std::vector<bool> layer_is_moe;   // hidden layers, then the MTP module if there is one
  int num_hidden_layers = 0;
  bool has_shared_experts = false;
  std::vector<int> bucket_layer;    // per bucket: the last layer backward reaches that adds to it; -1: the embedding
  Lane exchange_lane = Lane::near;  // far when expert groups span hosts
  bool exchanges = true;            // false: one rank holds all experts, nothing is sent
  int64_t exchange_capacity_rows = 0;  // tokens of a micro-batch times ranks of an expert group
};

// The boundary of the step before (gradient norm, commit, update, weight gathers, packing), then forward and backward
// of every micro-batch, one after the other, and one gradient reduction per bucket after its last contribution.
// `with_boundary` is false for the first step of a run, which has nothing to commit.
Program build_training_program(const ProgramInput& input, int num_microbatches, bool with_boundary);
// The boundary alone: before checkpoints, evaluation and export.
Program build_settle_program(const ProgramInput& input);
// Weights only: gather and pack, after a checkpoint was loaded into the shards.
Program build_load_program(const ProgramInput& input);
// Forward and loss of one micro-batch, nothing kept.
Program build_evaluation_program(const ProgramInput& input);

}  // namespace strait
