// optim/settings.h: what a recipe says about the optimizer, the learning rate, the balance of
// expert load and the objective.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/settings.h"

namespace strait {

struct OptimizerSettings {
  std::string name = "adamw";
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;           // decoupled: the weight shrinks by lr * weight_decay a step
  double grad_clip_norm = 1;           // of the whole gradient; 0: off
  std::string moments_dtype = "fp32";  // or "bf16"
  DType moments() const { return moments_dtype == "bf16" ? DType::bf16 : DType::f32; }
  bool operator==(const OptimizerSettings&) const = default;
};

// One stretch of a multi_stage schedule. It ends with step `until`: exactly one of the two is above
// 0.
struct ScheduleStage {
  int64_t until_step = 0;
  double until_fraction = 0;       // of the run's steps; the nearest step
  std::string shape = "constant";  // or "cosine": half a cosine from the rate before it
  double lr_multiplier = 1;  // of peak_lr: the rate in the stage (constant) or at its end (cosine)
  bool operator==(const ScheduleStage&) const = default;
};

// optim/learning_rate.h says what rate each step gets.
struct ScheduleSettings {
  std::string kind = "cosine";  // or "constant", "multi_stage"
  double peak_lr = 0;
  int64_t warmup_steps = 0;
  double min_lr = 0;             // cosine: the rate of the last step
  int64_t decay_start_step = 0;  // cosine: the last step at peak_lr; 0: where the warm-up ends
  std::vector<ScheduleStage> stages = {};  // multi_stage
  bool operator==(const ScheduleSettings&) const = default;
};

struct BalanceSettings {
  double bias_update_speed = 0.001;   // gamma: change of an expert's selection bias a step
  double sequence_loss_alpha = 1e-4;  // weight of the sequence-wise balance loss; 0: off
  bool operator==(const BalanceSettings&) const = default;
};

struct MtpSettings {
  double loss_weight = 0.3;  // lambda
  bool operator==(const MtpSettings&) const = default;
};

struct ObjectiveSettings {
  std::string kind = "pretrain";
  bool operator==(const ObjectiveSettings&) const = default;
};

const SettingsTable& table_of(const OptimizerSettings*);
const SettingsTable& table_of(const ScheduleStage*);
const SettingsTable& table_of(const ScheduleSettings*);
const SettingsTable& table_of(const BalanceSettings*);
const SettingsTable& table_of(const MtpSettings*);
const SettingsTable& table_of(const ObjectiveSettings*);

}  // namespace strait
