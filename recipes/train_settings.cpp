#include "recipes/train_settings.h"

namespace strait {

const SettingsTable& table_of(const BatchRampSettings*) {
  using B = BatchRampSettings;
  static const SettingsTable table = {
      {.name = "from",
       .value = value_of<&B::from>,
       .unit = "sequences",
       .range = between(0, 1e9),
       .doc = "Of the first steps. 0: no ramp."},
      {.name = "increment",
       .value = value_of<&B::increment>,
       .unit = "sequences",
       .range = between(0, 1e9),
       .doc = "By which the batch grows at a time."},
      {.name = "tokens",
       .value = value_of<&B::tokens>,
       .unit = "tokens",
       .range = between(0, 1e18),
       .doc = "Of the run until the batch is global_batch; each size on the way has an equal part "
              "of them."},
  };
  return table;
}

const SettingsTable& table_of(const TrainSettings*) {
  using T = TrainSettings;
  static const SettingsTable table = {
      {.name = "steps",
       .value = value_of<&T::steps>,
       .unit = "steps",
       .range = between(1, 1e12),
       .required = true,
       .doc = "Updates of the weights in the whole run."},
      {.name = "global_batch",
       .value = value_of<&T::global_batch>,
       .unit = "sequences",
       .range = between(1, 1e9),
       .required = true,
       .doc = "Sequences of one step, over all ranks."},
      {.name = "micro_batch",
       .value = value_of<&T::micro_batch>,
       .unit = "sequences",
       .range = between(1, 1e6),
       .doc = "Sequences a rank runs at a time."},
      {.name = "batch_ramp",
       .value = value_of<&T::batch_ramp>,
       .doc = "A batch that grows from a smaller one to global_batch."},
      {.name = "sequence_length",
       .value = value_of<&T::sequence_length>,
       .unit = "tokens",
       .range = between(8, 1 << 24),
       .required = true,
       .doc = "Tokens of one training sequence."},
      {.name = "seed",
       .value = value_of<&T::seed>,
       .range = between(0, 9007199254740992.0),
       .doc = "Fixes the first weights and the order of the data."},
      {.name = "start_from",
       .value = value_of<&T::start_from>,
       .doc = "Whose weights training begins with: a Hugging Face folder (FP32, BF16, or FP8 as "
              "published), a checkpoint or a run, of the same model. Empty: random weights."},
      {.name = "precision",
       .value = value_of<&T::precision>,
       .choices = {"fp32", "bf16", "fp8"},
       .doc =
           "Of activations and of the weights that multiply them. Master weights, gradients and "
           "sums are FP32 in all of them. fp8: what linear layers multiply and what waits for the "
           "backward pass; embedding, head, router, norms and attention itself stay BF16 or FP32. "
           "Section formats sets single roles."},
      {.name = "recompute",
       .value = value_of<&T::recompute>,
       .choices = {"norms", "mla_up", "swiglu"},
       .doc = "What the backward pass computes again in place of keeping it in memory."},
      {.name = "save_every",
       .value = value_of<&T::save_every>,
       .unit = "steps",
       .range = between(0, 1e12),
       .doc = "Steps between checkpoints. 0: only at the end and when stopped."},
      {.name = "keep_checkpoints",
       .value = value_of<&T::keep_checkpoints>,
       .unit = "checkpoints",
       .range = between(0, 1e6),
       .doc = "How many of the newest checkpoints stay. 0: all."},
      {.name = "eval_every",
       .value = value_of<&T::eval_every>,
       .unit = "steps",
       .range = between(0, 1e12),
       .doc = "Steps between evaluations on held-out text. 0: never."},
      {.name = "eval_sequences",
       .value = value_of<&T::eval_sequences>,
       .unit = "sequences",
       .range = between(1, 1e9),
       .doc = "Held-out sequences of one evaluation, or all there are if fewer."},
      {.name = "log_every",
       .value = value_of<&T::log_every>,
       .unit = "steps",
       .range = between(1, 1e12),
       .doc = "Steps between lines of progress. metrics.jsonl has every step."},
      {.name = "threads",
       .value = value_of<&T::threads>,
       .unit = "threads",
       .range = between(0, 4096),
       .doc = "Compute threads of one rank. 0: the machine's cores / the ranks on it, at least 1."},
  };
  return table;
}

const SettingsTable& table_of(const RunSettings*) {
  static const SettingsTable table = {
      {.name = "name",
       .value = value_of<&RunSettings::name>,
       .doc = "The run's name. Empty: the recipe file's name without its ending."},
      {.name = "dir",
       .value = value_of<&RunSettings::dir>,
       .doc = "The folder that holds runs; this one is dir/name."},
  };
  return table;
}

}  // namespace strait
