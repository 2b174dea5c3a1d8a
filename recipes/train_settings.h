// recipes/train_settings.h: what a recipe says about the run as a whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/settings.h"

namespace strait {

// The batch grows from step to step until it is the global batch.
struct BatchRampSettings {
  int64_t from = 0;       // sequences of the first step; 0: no ramp
  int64_t increment = 0;  // sequences
  int64_t tokens = 0;     // until the batch is whole
  bool operator==(const BatchRampSettings&) const = default;
};

struct TrainSettings {
  int64_t steps = 0;
  int64_t global_batch = 0;  // sequences of one step over all ranks
  int64_t micro_batch = 1;   // sequences a rank runs at a time
  BatchRampSettings batch_ramp = {};
  int64_t sequence_length = 0;
  int64_t seed = 1;
  std::string start_from = {};     // a model on disk; empty: random weights
  std::string precision = "bf16";  // or "fp32", "fp8": of activations and weights in GEMMs
  std::vector<std::string> recompute = {"norms", "mla_up", "swiglu"};
  int64_t save_every = 0;  // steps; 0: only at the end
  int64_t keep_checkpoints = 2;
  int64_t eval_every = 0;  // steps; 0: never
  int64_t eval_sequences = 64;
  int64_t log_every = 1;
  int64_t threads = 0;  // of one rank; 0: the machine's cores / the ranks on it
  bool operator==(const TrainSettings&) const = default;
};

struct RunSettings {
  std::string name = {};    // empty in a recipe: the file's name without its ending
  std::string dir = "run";  // the run's folder is dir/name
  bool operator==(const RunSettings&) const = default;
};

const SettingsTable& table_of(const BatchRampSettings*);
const SettingsTable& table_of(const TrainSettings*);
const SettingsTable& table_of(const RunSettings*);

}  // namespace strait
