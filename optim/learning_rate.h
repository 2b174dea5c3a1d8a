// optim/learning_rate.h: the learning rate of each step.
#pragma once

#include <cstdint>

#include "optim/settings.h"

namespace strait {

// The rate of update number `step`, counted from 1, in a run of total_steps updates.
//   warm-up      steps 1..warmup_steps: peak_lr * step / warmup_steps
//   constant     peak_lr
//   cosine       peak_lr up to decay_start_step (0: the end of the warm-up), then half a cosine
//   that reaches
//                min_lr in step total_steps
//   multi_stage  the stage whose stretch (end of the one before, its own end] holds the step:
//   constant has
//                peak_lr * lr_multiplier; cosine goes in half a cosine from the rate the stage
//                before ended with (the first: peak_lr) to peak_lr * lr_multiplier, reached in its
//                last step. Steps past the last stage keep its final rate.
// A pure function: a resumed run gets the same bits.
// REQUIRES: step >= 1; settings that pass recipes/check.h for total_steps.
// Source: DeepSeek-V2 report, section 3.1.2 (steps down at 60% and 90%); DeepSeek-V3 report,
// section 4.2.
double learning_rate(const ScheduleSettings& schedule, int64_t step, int64_t total_steps);

// The last step of a stage in a run of total_steps updates.
int64_t last_step(const ScheduleStage& stage, int64_t total_steps);

}  // namespace strait
