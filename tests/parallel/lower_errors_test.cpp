// Shapes and schedules that do not fit: one clear error each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/errors.h"
#include "parallel/pipeline/schedules.h"
#include "tests/parallel/uneven_shapes.h"

namespace strait {
namespace {

using ::testing::HasSubstr;

class LowerErrors : public ::testing::Test {
 protected:
  Schedule schedule_ = schedule_dualpipe({.positions = 2, .microbatches = 4});
  StepShape shape_ = uneven_shape(schedule_, {.more_layers = 2, .mtp = true});

  void expect_refused(const std::string& text) {
    for (const bool with_boundary : {false, true}) {
      try {
        lower_step(shape_, schedule_, with_boundary);
        FAIL() << "accepted; expected: " << text;
      } catch (const RecipeError& error) {
        EXPECT_THAT(error.what(), HasSubstr(text));
      }
    }
  }
};

TEST_F(LowerErrors, NothingIsWrong) { EXPECT_EQ(lower_step(shape_, schedule_, true).size(), 2u); }

TEST_F(LowerErrors, MoreStagesThanLayers) {
  schedule_ = schedule_1f1b({.positions = 6, .microbatches = 6});
  expect_refused("schedule 1f1b has 6 stages, but the model has 5 layers");
}

TEST_F(LowerErrors, AnotherCut) {
  schedule_ = schedule_1f1b({.positions = 3, .microbatches = 6});
  expect_refused("schedule 1f1b has 3 stages, the model is cut into 2");
}

TEST_F(LowerErrors, OtherPositions) {
  schedule_ = schedule_dualpipev({.positions = 1, .microbatches = 4});
  expect_refused("schedule dualpipev has 1 positions, buckets are given for 2");
}

TEST_F(LowerErrors, StagesHaveGapsOrNoLayers) {
  shape_.stages[1].first_layer = 3;
  expect_refused("stage 1 has layers [3, 5); it must begin at 2");
  shape_.stages = {{.end_layer = 5, .embeds = true},
                   {.first_layer = 5, .end_layer = 5, .has_head = true}};
  expect_refused("stage 1 has layers [5, 5)");
  shape_.stages = {{.end_layer = 2, .embeds = true},
                   {.first_layer = 2, .end_layer = 4, .has_head = true}};
  expect_refused("the stages have 4 layers, the model 5");
}

TEST_F(LowerErrors, EndsOfTheModel) {
  shape_.stages[1].embeds = true;
  expect_refused("stage 1: the first stage, and no other, embeds");
  shape_.stages[1] = {.first_layer = 2, .end_layer = 5};
  expect_refused("stage 1: the last stage, and no other, has the head");
}

TEST_F(LowerErrors, Layers) {
  shape_.num_hidden_layers = 3;
  expect_refused("3 hidden layers, but 5 layers are described");
}

TEST_F(LowerErrors, Waves) {
  shape_.waves = 0;
  expect_refused("waves = 0: at least 1");
}

TEST_F(LowerErrors, Buckets) {
  const StepShape good = shape_;
  shape_.buckets[0][0].layers.clear();
  expect_refused("of position 0 belongs to no layer");
  shape_ = good;
  shape_.buckets[0][1].name = shape_.buckets[0][0].name;
  expect_refused("position 0 has two buckets named");
  shape_ = good;
  shape_.buckets[0][0].positions = {0};
  expect_refused("names a position twice, or its own");
  shape_ = good;
  shape_.buckets[0][0].positions = {2};
  expect_refused("has a copy on position 2, which does not have it");
  shape_ = good;
  shape_.buckets[1][2].positions = {};
  expect_refused("disagree about who has copies");
  shape_ = good;
  shape_.buckets[0][0].layers.push_back(7);
  expect_refused("belongs to layer 7, which is not there");
}

// Swaps the micro-batches of the last two slots of this kind at the last position.
void swap_last(Schedule& schedule, Work work) {
  std::vector<Slot*> of_kind;
  for (Slot& slot : schedule.slots.back())
    if (slot.work == work) of_kind.push_back(&slot);
  ASSERT_GE(of_kind.size(), 2u);
  std::swap(of_kind[of_kind.size() - 2]->microbatch, of_kind.back()->microbatch);
}

TEST_F(LowerErrors, WeightGradientsOutOfOrder) {
  schedule_ = schedule_zb1p({.positions = 2, .microbatches = 4});
  shape_ = uneven_shape(schedule_, {});
  swap_last(schedule_, Work::weight_gradient);
  check_schedule(schedule_);
  expect_refused("the weight gradient of micro-batch 2 comes after that of 3");
}

TEST_F(LowerErrors, MicrobatchesOutOfOrder) {
  const Schedule lone = schedule_1f1b({.microbatches = 3});
  shape_ = uneven_shape(lone, {});
  schedule_ = lone;
  swap_last(schedule_, Work::forward);
  swap_last(schedule_, Work::backward);
  check_schedule(schedule_);
  expect_refused("the forward of micro-batch 1 comes after that of 2");
  schedule_.slots = {{{Work::forward, 0},
                      {Work::forward, 1},
                      {Work::forward, 2},
                      {Work::backward, 0},
                      {Work::backward, 2},
                      {Work::backward, 1}}};
  check_schedule(schedule_);
  expect_refused("the input gradient of micro-batch 1 comes after that of 2");
}

TEST_F(LowerErrors, BoundaryAlone) {
  shape_.waves = 0;
  EXPECT_THROW(lower_settle(shape_), RecipeError);
  EXPECT_THROW(lower_load(shape_), RecipeError);
  EXPECT_THROW(lower_evaluation(shape_, schedule_), RecipeError);
}

}  // namespace
}  // namespace strait
