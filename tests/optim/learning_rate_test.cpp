#include "optim/learning_rate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/errors.h"

namespace strait {
namespace {

TEST(LearningRate, WarmsUpInEqualStepsToThePeak) {
  const ScheduleSettings schedule{.kind = "constant", .peak_lr = 0.5, .warmup_steps = 4};
  EXPECT_EQ(learning_rate(schedule, 1, 10), 0.125);
  EXPECT_EQ(learning_rate(schedule, 2, 10), 0.25);
  EXPECT_EQ(learning_rate(schedule, 3, 10), 0.375);
  EXPECT_EQ(learning_rate(schedule, 4, 10), 0.5);
  EXPECT_EQ(learning_rate(schedule, 5, 10), 0.5);
  EXPECT_EQ(learning_rate(schedule, 10, 10), 0.5);
}

TEST(LearningRate, WithoutWarmUpStartsAtThePeak) {
  EXPECT_EQ(learning_rate({.kind = "constant", .peak_lr = 0.5}, 1, 10), 0.5);
}

TEST(LearningRate, CosineReachesTheLowestRateInTheLastStep) {
  const ScheduleSettings schedule{
      .kind = "cosine", .peak_lr = 1, .warmup_steps = 10, .min_lr = 0.2};
  EXPECT_EQ(learning_rate(schedule, 10, 110), 1);
  EXPECT_NEAR(learning_rate(schedule, 35, 110), 0.2 + 0.8 * (0.5 + std::sqrt(0.125)), 1e-15);
  EXPECT_NEAR(learning_rate(schedule, 60, 110), 0.6, 1e-15);
  EXPECT_NEAR(learning_rate(schedule, 85, 110), 0.2 + 0.8 * (0.5 - std::sqrt(0.125)), 1e-15);
  EXPECT_EQ(learning_rate(schedule, 110, 110), 0.2);
}

TEST(LearningRate, CosineWaitsForItsFirstStep) {
  const ScheduleSettings schedule{
      .kind = "cosine", .peak_lr = 1, .warmup_steps = 10, .min_lr = 0, .decay_start_step = 50};
  EXPECT_EQ(learning_rate(schedule, 50, 110), 1);
  EXPECT_LT(learning_rate(schedule, 51, 110), 1);
  EXPECT_NEAR(learning_rate(schedule, 80, 110), 0.5, 1e-15);
  EXPECT_EQ(learning_rate(schedule, 110, 110), 0);
}

// DeepSeek-V2 report, section 3.1.2: 2000 steps of warm-up to 2.4e-4, then times 0.316 at 60% and
// at 90%.
TEST(LearningRate, DeepSeekV2) {
  ScheduleSettings schedule{.kind = "multi_stage", .peak_lr = 2.4e-4, .warmup_steps = 2000};
  schedule.stages = {{.until_fraction = 0.6},
                     {.until_fraction = 0.9, .lr_multiplier = 0.316},
                     {.until_fraction = 1, .lr_multiplier = 0.316 * 0.316}};
  const int64_t steps = 100'000;
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1, steps), 1.2e-7);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 500, steps), 6e-5);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 2000, steps), 2.4e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 60'000, steps), 2.4e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 60'001, steps), 7.584e-5);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 90'000, steps), 7.584e-5);
  EXPECT_NEAR(learning_rate(schedule, 90'001, steps), 2.396544e-5, 1e-18);
  EXPECT_NEAR(learning_rate(schedule, steps, steps), 2.396544e-5, 1e-18);
}

// DeepSeek-V3 report, section 4.2, in steps of 62.9 M tokens: 2000 of warm-up to 2.2e-4, constant
// to 10 T tokens, a cosine to 2.2e-5 over 4.3 T, 2.2e-5 for 333 B, 7.3e-6 for 167 B.
TEST(LearningRate, DeepSeekV3) {
  ScheduleSettings schedule{.kind = "multi_stage", .peak_lr = 2.2e-4, .warmup_steps = 2000};
  schedule.stages = {{.until_step = 159'000},
                     {.until_step = 227'000, .shape = "cosine", .lr_multiplier = 0.1},
                     {.until_step = 232'600, .lr_multiplier = 0.1},
                     {.until_step = 235'240, .lr_multiplier = 7.3e-6 / 2.2e-4}};
  const int64_t steps = 235'240;
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1000, steps), 1.1e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 2000, steps), 2.2e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 159'000, steps), 2.2e-4);
  // A quarter, half and three quarters of the cosine: 2.2e-5 + 1.98e-4 * (0.5 + cos(pi p) / 2).
  EXPECT_NEAR(learning_rate(schedule, 176'000, steps), 0.00019100357133746817, 1e-17);
  EXPECT_NEAR(learning_rate(schedule, 193'000, steps), 1.21e-4, 1e-17);
  EXPECT_NEAR(learning_rate(schedule, 210'000, steps), 5.099642866253179e-05, 1e-17);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 227'000, steps), 2.2e-5);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 227'001, steps), 2.2e-5);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 232'600, steps), 2.2e-5);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 232'601, steps), 7.3e-6);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 235'240, steps), 7.3e-6);
}

TEST(LearningRate, CosineNeverRisesAndNeverLeavesItsBounds) {
  const ScheduleSettings schedule{
      .kind = "cosine", .peak_lr = 3e-4, .warmup_steps = 7, .min_lr = 1e-5};
  double before = 3e-4;
  for (int64_t step = 8; step <= 997; ++step) {
    const double rate = learning_rate(schedule, step, 997);
    EXPECT_LT(rate, before) << "step " << step;
    EXPECT_GE(rate, 1e-5) << "step " << step;
    before = rate;
  }
}

TEST(LearningRate, StageEndsAtTheNearestStepOfItsFraction) {
  EXPECT_EQ(last_step({.until_fraction = 0.9}, 10), 9);
  EXPECT_EQ(last_step({.until_fraction = 0.333}, 10), 3);
  EXPECT_EQ(last_step({.until_fraction = 1}, 235'240), 235'240);
  EXPECT_EQ(last_step({.until_step = 7}, 10), 7);
}

TEST(LearningRate, StepsCountFromOne) {
  EXPECT_THROW(learning_rate({.kind = "constant", .peak_lr = 1}, 0, 10), InternalError);
}

}  // namespace
}  // namespace strait
