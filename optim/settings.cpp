#include "optim/settings.h"

namespace strait {

const SettingsTable& table_of(const OptimizerSettings*) {
  using O = OptimizerSettings;
  static const SettingsTable table = {
      {.name = "name",
       .value = value_of<&O::name>,
       .choices = {"adamw"},
       .doc = "The update rule."},
      {.name = "beta1",
       .value = value_of<&O::beta1>,
       .range = from_to_below(0, 1),
       .doc = "Decay of the gradient's running mean."},
      {.name = "beta2",
       .value = value_of<&O::beta2>,
       .range = from_to_below(0, 1),
       .doc = "Decay of the squared gradient's running mean."},
      {.name = "eps",
       .value = value_of<&O::eps>,
       .range = above_up_to(0, 1),
       .doc = "Added to the root of the second moment."},
      {.name = "weight_decay",
       .value = value_of<&O::weight_decay>,
       .range = between(0, 100),
       .doc = "Decoupled decay: a step shrinks a weight by lr x weight_decay."},
      {.name = "grad_clip_norm",
       .value = value_of<&O::grad_clip_norm>,
       .range = between(0, 1e12),
       .doc = "The largest norm of the whole gradient; a longer one is scaled down. 0: off."},
      {.name = "moments_dtype",
       .value = value_of<&O::moments_dtype>,
       .choices = {"fp32", "bf16"},
       .doc = "How the two moments are stored."},
  };
  return table;
}

const SettingsTable& table_of(const ScheduleStage*) {
  using S = ScheduleStage;
  static const SettingsTable table = {
      {.name = "until_step",
       .value = value_of<&S::until_step>,
       .unit = "steps",
       .range = between(0, 1e12),
       .doc = "The stage's last step. 0: until_fraction says it."},
      {.name = "until_fraction",
       .value = value_of<&S::until_fraction>,
       .unit = "fractions of train.steps",
       .range = between(0, 1),
       .doc = "The stage's last step as a share of the run. 0: until_step says it."},
      {.name = "shape",
       .value = value_of<&S::shape>,
       .choices = {"constant", "cosine"},
       .doc = "constant: one rate; cosine: half a cosine from the rate before the stage."},
      {.name = "lr_multiplier",
       .value = value_of<&S::lr_multiplier>,
       .unit = "multiples of schedule.peak_lr",
       .range = between(0, 1000),
       .doc = "The rate in the stage (constant) or at its end (cosine)."},
  };
  return table;
}

const SettingsTable& table_of(const ScheduleSettings*) {
  using S = ScheduleSettings;
  static const SettingsTable table = {
      {.name = "kind",
       .value = value_of<&S::kind>,
       .choices = {"constant", "cosine", "multi_stage"},
       .doc = "What follows the linear warm-up."},
      {.name = "peak_lr",
       .value = value_of<&S::peak_lr>,
       .range = above_up_to(0, 1000),
       .required = true,
       .doc = "The learning rate at the end of the warm-up."},
      {.name = "warmup_steps",
       .value = value_of<&S::warmup_steps>,
       .unit = "steps",
       .range = between(0, 1e12),
       .doc = "Steps over which the rate rises linearly to peak_lr, which the last of them has."},
      {.name = "min_lr",
       .value = value_of<&S::min_lr>,
       .range = between(0, 1000),
       .doc = "kind cosine: the rate of the last step."},
      {.name = "decay_start_step",
       .value = value_of<&S::decay_start_step>,
       .unit = "steps",
       .range = between(0, 1e12),
       .doc = "kind cosine: the last step at peak_lr. 0: the end of the warm-up."},
      {.name = "stages",
       .value = value_of<&S::stages>,
       .doc =
           "kind multi_stage: what follows the warm-up; the last stage's rate stays to the end."},
  };
  return table;
}

const SettingsTable& table_of(const BalanceSettings*) {
  using B = BalanceSettings;
  static const SettingsTable table = {
      {.name = "bias_update_speed",
       .value = value_of<&B::bias_update_speed>,
       .unit = "scores per step",
       .range = between(0, 1),
       .doc =
           "How far an expert's selection bias moves each step, down if it had more than the mean "
           "load. 0: off."},
      {.name = "sequence_loss_alpha",
       .value = value_of<&B::sequence_loss_alpha>,
       .range = between(0, 10),
       .doc = "Weight of the sequence-wise balance loss. 0: off."},
  };
  return table;
}

const SettingsTable& table_of(const MtpSettings*) {
  static const SettingsTable table = {
      {.name = "loss_weight",
       .value = value_of<&MtpSettings::loss_weight>,
       .range = between(0, 10),
       .doc = "Weight of the multi-token-prediction loss in the whole."},
  };
  return table;
}

const SettingsTable& table_of(const ObjectiveSettings*) {
  static const SettingsTable table = {
      {.name = "kind",
       .value = value_of<&ObjectiveSettings::kind>,
       .choices = {"pretrain"},
       .doc = "What is learnt: pretrain is next-token prediction on the corpus."},
  };
  return table;
}

}  // namespace strait
