// The text of small programs, whole: one position, two positions, pairs.
#include "parallel/program/lower.h"

#include <gtest/gtest.h>

#include "parallel/pipeline/schedules.h"

namespace strait {
namespace {

// A dense layer, a MoE layer and an MTP module, as the engine describes them.
StepShape tiny_model() {
  StepShape shape{.layer_is_moe = {false, true, true},
                  .num_hidden_layers = 2,
                  .has_shared_experts = true,
                  .stages = {{.end_layer = 3, .embeds = true, .has_head = true}},
                  .buckets = {{{.layers = {-1}, .name = "0"},
                               {.layers = {0}, .name = "1"},
                               {.layers = {1}, .name = "2"},
                               {.layers = {1}, .name = "3"},
                               {.layers = {2}, .name = "4"}}},
                  .microbatch_rows = 128,
                  .exchange_capacity_rows = 512};
  return shape;
}

// One layer a stage, all MoE, one bucket each.
StepShape layer_per_stage(int num_stages) {
  StepShape shape{.layer_is_moe = std::vector<bool>(static_cast<size_t>(num_stages), true),
                  .num_hidden_layers = num_stages,
                  .has_shared_experts = true,
                  .microbatch_rows = 64,
                  .exchange_capacity_rows = 128};
  for (int stage = 0; stage < num_stages; ++stage) {
    shape.stages.push_back({.first_layer = stage,
                            .end_layer = stage + 1,
                            .embeds = stage == 0,
                            .has_head = stage + 1 == num_stages});
    shape.buckets.push_back({{.layers = {stage}, .name = "layer " + std::to_string(stage)}});
  }
  return shape;
}

// F0, F1 & B0, B1 on one position.
Schedule one_pair() {
  Schedule schedule = schedule_1f1b({.microbatches = 2});
  schedule.slots = {{{.work = Work::forward, .microbatch = 0},
                     {.work = Work::forward, .microbatch = 1, .paired = true},
                     {.work = Work::backward, .microbatch = 0},
                     {.work = Work::backward, .microbatch = 1}}};
  return schedule;
}

// "attention.F m1 l0", and the exchanges in brackets.
std::string order_of_pair(const Program& program) {
  std::string text = "\n";
  for (const Task& task : program.tasks) {
    if (task.pair < 0) continue;
    text += task.lane == Lane::compute ? to_string(task) : "  [" + to_string(task) + "]";
    text += '\n';
  }
  return text;
}

std::string text_of(const Program& program) { return "\n" + to_string(program); }

TEST(Lower, OnePosition) {
  const Schedule schedule = schedule_1f1b({.microbatches = 2});
  EXPECT_EQ(text_of(lower_step(tiny_model(), schedule, true).front()), R"(
    0 compute  gradient_norm
    1 shard    commit after 0
    2 compute  update b0 after 1
    3 shard    gather_weights b0 after 2
    4 compute  update b1
    5 shard    gather_weights b1 after 4
    6 compute  update b2
    7 shard    gather_weights b2 after 6
    8 compute  update b3
    9 shard    gather_weights b3 after 8
   10 compute  update b4
   11 shard    gather_weights b4 after 10
   12 compute  pack_weights b0 after 3
   13 compute  pack_weights b1 after 5
   14 compute  pack_weights b2 after 7
   15 compute  pack_weights b3 after 9
   16 compute  pack_weights b4 after 11
   17 compute  embed.F m0
   18 compute  attention.F m0 l0
   19 compute  mlp.F m0 l0
   20 compute  attention.F m0 l1
   21 near     dispatch.F m0 l1 capacity 512 rows after 20
   22 compute  shared.F m0 l1
   23 compute  experts.F m0 l1 capacity 512 rows after 21
   24 near     combine.F m0 l1 capacity 512 rows after 23
   25 compute  head.F m0 l1 after 24
   26 compute  attention.F m0 l2
   27 near     dispatch.F m0 l2 capacity 512 rows after 26
   28 compute  shared.F m0 l2
   29 compute  experts.F m0 l2 capacity 512 rows after 27
   30 near     combine.F m0 l2 capacity 512 rows after 29
   31 compute  head.F m0 l2 after 30
   32 compute  head.B m0 l2
   33 near     combine.B m0 l2 capacity 512 rows after 32
   34 compute  shared.B m0 l2
   35 compute  experts.B m0 l2 capacity 512 rows after 33
   36 near     dispatch.B m0 l2 capacity 512 rows after 35
   37 compute  experts.W m0 l2 capacity 512 rows
   38 compute  shared.W m0 l2
   39 compute  attention.B m0 l2 after 36
   40 compute  attention.W m0 l2
   41 compute  head.B m0 l1
   42 near     combine.B m0 l1 capacity 512 rows after 41
   43 compute  shared.B m0 l1
   44 compute  experts.B m0 l1 capacity 512 rows after 42
   45 near     dispatch.B m0 l1 capacity 512 rows after 44
   46 compute  experts.W m0 l1 capacity 512 rows
   47 compute  shared.W m0 l1
   48 compute  attention.B m0 l1 after 45
   49 compute  attention.W m0 l1
   50 compute  mlp.B m0 l0
   51 compute  mlp.W m0 l0
   52 compute  attention.B m0 l0
   53 compute  attention.W m0 l0
   54 compute  embed.B m0
   55 compute  embed.F m1
   56 compute  attention.F m1 l0
   57 compute  mlp.F m1 l0
   58 compute  attention.F m1 l1
   59 near     dispatch.F m1 l1 capacity 512 rows after 58
   60 compute  shared.F m1 l1
   61 compute  experts.F m1 l1 capacity 512 rows after 59
   62 near     combine.F m1 l1 capacity 512 rows after 61
   63 compute  head.F m1 l1 after 62
   64 compute  attention.F m1 l2
   65 near     dispatch.F m1 l2 capacity 512 rows after 64
   66 compute  shared.F m1 l2
   67 compute  experts.F m1 l2 capacity 512 rows after 65
   68 near     combine.F m1 l2 capacity 512 rows after 67
   69 compute  head.F m1 l2 after 68
   70 compute  head.B m1 l2
   71 near     combine.B m1 l2 capacity 512 rows after 70
   72 compute  shared.B m1 l2
   73 compute  experts.B m1 l2 capacity 512 rows after 71
   74 near     dispatch.B m1 l2 capacity 512 rows after 73
   75 compute  experts.W m1 l2 capacity 512 rows
   76 compute  shared.W m1 l2
   77 compute  attention.B m1 l2 after 74
   78 compute  attention.W m1 l2
   79 shard    reduce_gradients b4 after 78
   80 compute  head.B m1 l1
   81 near     combine.B m1 l1 capacity 512 rows after 80
   82 compute  shared.B m1 l1
   83 compute  experts.B m1 l1 capacity 512 rows after 81
   84 near     dispatch.B m1 l1 capacity 512 rows after 83
   85 compute  experts.W m1 l1 capacity 512 rows
   86 compute  shared.W m1 l1
   87 compute  attention.B m1 l1 after 84
   88 compute  attention.W m1 l1
   89 shard    reduce_gradients b2 after 88
   90 shard    reduce_gradients b3
   91 compute  mlp.B m1 l0
   92 compute  mlp.W m1 l0
   93 compute  attention.B m1 l0
   94 compute  attention.W m1 l0
   95 shard    reduce_gradients b1 after 94
   96 compute  embed.B m1
   97 shard    reduce_gradients b0 after 96
)");
}

TEST(Lower, BoundaryAlone) {
  StepShape shape = tiny_model();
  shape.buckets.front().resize(2);
  EXPECT_EQ(text_of(lower_settle(shape).front()), R"(
    0 compute  gradient_norm
    1 shard    commit after 0
    2 compute  update b0 after 1
    3 shard    gather_weights b0 after 2
    4 compute  update b1
    5 shard    gather_weights b1 after 4
    6 compute  pack_weights b0 after 3
    7 compute  pack_weights b1 after 5
)");
  EXPECT_EQ(text_of(lower_load(shape).front()), R"(
    0 shard    gather_weights b0
    1 shard    gather_weights b1
    2 compute  pack_weights b0 after 0
    3 compute  pack_weights b1 after 1
)");
}

// Position 0 sends the next micro-batch as it gets the gradient of the one before: a swap.
TEST(Lower, TwoPositions) {
  const Schedule schedule = schedule_1f1b({.positions = 2, .microbatches = 2});
  const std::vector<Program> programs = lower_step(layer_per_stage(2), schedule, false);
  EXPECT_EQ(text_of(programs[0]), R"(
    0 compute  embed.F m0
    1 compute  attention.F m0 l0
    2 near     dispatch.F m0 l0 capacity 128 rows after 1
    3 compute  shared.F m0 l0
    4 compute  experts.F m0 l0 capacity 128 rows after 2
    5 near     combine.F m0 l0 capacity 128 rows after 4
    6 pipe     send.F m0 l1 with 1 sends 64 rows after 5
    7 compute  embed.F m1
    8 compute  attention.F m1 l0
    9 near     dispatch.F m1 l0 capacity 128 rows after 8
   10 compute  shared.F m1 l0
   11 compute  experts.F m1 l0 capacity 128 rows after 9
   12 near     combine.F m1 l0 capacity 128 rows after 11
   13 pipe     swap.F m1 l1 for B m0 l1 with 1 sends 64 rows receives 64 rows after 12
   14 near     combine.B m0 l0 capacity 128 rows after 13
   15 compute  shared.B m0 l0 after 13
   16 compute  experts.B m0 l0 capacity 128 rows after 14
   17 near     dispatch.B m0 l0 capacity 128 rows after 16
   18 compute  experts.W m0 l0 capacity 128 rows
   19 compute  shared.W m0 l0
   20 compute  attention.B m0 l0 after 17
   21 compute  attention.W m0 l0
   22 compute  embed.B m0
   23 pipe     receive.B m1 l1 with 1 receives 64 rows
   24 near     combine.B m1 l0 capacity 128 rows after 23
   25 compute  shared.B m1 l0 after 23
   26 compute  experts.B m1 l0 capacity 128 rows after 24
   27 near     dispatch.B m1 l0 capacity 128 rows after 26
   28 compute  experts.W m1 l0 capacity 128 rows
   29 compute  shared.W m1 l0
   30 compute  attention.B m1 l0 after 27
   31 compute  attention.W m1 l0
   32 shard    reduce_gradients b0 after 31
   33 compute  embed.B m1
)");
  EXPECT_EQ(text_of(programs[1]), R"(
    0 pipe     receive.F m0 l1 with 0 receives 64 rows
    1 compute  attention.F m0 l1 after 0
    2 near     dispatch.F m0 l1 capacity 128 rows after 1
    3 compute  shared.F m0 l1
    4 compute  experts.F m0 l1 capacity 128 rows after 2
    5 near     combine.F m0 l1 capacity 128 rows after 4
    6 compute  head.F m0 l1 after 5
    7 compute  head.B m0 l1
    8 near     combine.B m0 l1 capacity 128 rows after 7
    9 compute  shared.B m0 l1
   10 compute  experts.B m0 l1 capacity 128 rows after 8
   11 near     dispatch.B m0 l1 capacity 128 rows after 10
   12 compute  experts.W m0 l1 capacity 128 rows
   13 compute  shared.W m0 l1
   14 compute  attention.B m0 l1 after 11
   15 compute  attention.W m0 l1
   16 pipe     swap.B m0 l1 for F m1 l1 with 0 sends 64 rows receives 64 rows after 14
   17 compute  attention.F m1 l1 after 16
   18 near     dispatch.F m1 l1 capacity 128 rows after 17
   19 compute  shared.F m1 l1
   20 compute  experts.F m1 l1 capacity 128 rows after 18
   21 near     combine.F m1 l1 capacity 128 rows after 20
   22 compute  head.F m1 l1 after 21
   23 compute  head.B m1 l1
   24 near     combine.B m1 l1 capacity 128 rows after 23
   25 compute  shared.B m1 l1
   26 compute  experts.B m1 l1 capacity 128 rows after 24
   27 near     dispatch.B m1 l1 capacity 128 rows after 26
   28 compute  experts.W m1 l1 capacity 128 rows
   29 compute  shared.W m1 l1
   30 compute  attention.B m1 l1 after 27
   31 compute  attention.W m1 l1
   32 shard    reduce_gradients b0 after 31
   33 pipe     send.B m1 l1 with 0 sends 64 rows after 30
)");
}

// Source of the order: DeepSeek-V3 report, figure 4; the published profile has it four times.
TEST(Lower, PairHasThePublishedOrder) {
  StepShape shape = tiny_model();
  shape.layer_is_moe = {true, true};
  shape.stages.front().end_layer = 2;
  shape.buckets.front().pop_back();
  EXPECT_EQ(order_of_pair(lower_step(shape, one_pair(), false).front()), R"(
head.B m0 l1
  [combine.B m0 l1]
embed.F m1
attention.F m1 l0
  [dispatch.F m1 l0]
shared.B m0 l1
experts.B m0 l1
  [dispatch.B m0 l1]
experts.W m0 l1
shared.W m0 l1
shared.F m1 l0
experts.F m1 l0
  [combine.F m1 l0]
attention.B m0 l1
attention.W m0 l1
  [combine.B m0 l0]
attention.F m1 l1
  [dispatch.F m1 l1]
shared.B m0 l0
experts.B m0 l0
  [dispatch.B m0 l0]
experts.W m0 l0
shared.W m0 l0
shared.F m1 l1
experts.F m1 l1
  [combine.F m1 l1]
attention.B m0 l0
attention.W m0 l0
head.F m1 l1
embed.B m0
)");
}

TEST(Lower, PairInWaves) {
  StepShape shape = tiny_model();
  shape.layer_is_moe = {true};
  shape.num_hidden_layers = 1;
  shape.stages.front().end_layer = 1;
  shape.buckets = {{}};
  shape.waves = 2;
  EXPECT_EQ(order_of_pair(lower_step(shape, one_pair(), false).front()), R"(
head.B m0 l0
  [combine.B m0 l0 1/2]
  [combine.B m0 l0 2/2]
embed.F m1
attention.F m1 l0
  [dispatch.F m1 l0 1/2]
  [dispatch.F m1 l0 2/2]
shared.B m0 l0
experts.B m0 l0 1/2
  [dispatch.B m0 l0 1/2]
experts.B m0 l0 2/2
  [dispatch.B m0 l0 2/2]
experts.W m0 l0 1/2
experts.W m0 l0 2/2
shared.W m0 l0
shared.F m1 l0
experts.F m1 l0 1/2
  [combine.F m1 l0 1/2]
experts.F m1 l0 2/2
  [combine.F m1 l0 2/2]
attention.B m0 l0
attention.W m0 l0
head.F m1 l0
embed.B m0
)");
}

// Two dense layers and one with experts against two with experts: those with exchanges come
// together.
TEST(Lower, UnevenPair) {
  StepShape shape = tiny_model();
  shape.layer_is_moe = {false, false, true, true, true};
  shape.num_hidden_layers = 4;
  shape.has_shared_experts = false;
  shape.stages = {{.end_layer = 3, .embeds = true},
                  {.first_layer = 3, .end_layer = 5, .has_head = true}};
  shape.buckets = {{}};
  Schedule schedule = schedule_1f1b({.microbatches = 4});
  schedule.num_stages = schedule.num_copies = 2;
  schedule.chunks = {{{.stage = 0, .copy = 0},
                      {.stage = 1, .copy = 0},
                      {.stage = 0, .copy = 1},
                      {.stage = 1, .copy = 1}}};
  std::vector<Slot>& slots = schedule.slots.front();
  slots.clear();
  using enum Work;
  for (const int m : {0, 1})
    for (const int chunk : {0, 1}) slots.push_back({forward, m, chunk});
  slots.push_back({.work = forward, .microbatch = 2, .chunk = 2, .paired = true});
  slots.push_back({.work = input_gradient, .microbatch = 0, .chunk = 1});
  for (const Slot slot : {Slot{weight_gradient, 0, 1},
                          {backward, 0, 0},
                          {backward, 1, 1},
                          {backward, 1, 0},
                          {forward, 2, 3},
                          {forward, 3, 2},
                          {forward, 3, 3},
                          {backward, 2, 3},
                          {backward, 2, 2},
                          {backward, 3, 3},
                          {backward, 3, 2}})
    slots.push_back(slot);
  check_schedule(schedule);
  EXPECT_EQ(order_of_pair(lower_step(shape, schedule, false).front()), R"(
head.B m0 l4
  [combine.B m0 l4]
embed.F m2
attention.F m2 l0
mlp.F m2 l0
attention.F m2 l1
experts.B m0 l4
  [dispatch.B m0 l4]
mlp.F m2 l1
attention.B m0 l4
head.B m0 l3
  [combine.B m0 l3]
attention.F m2 l2
  [dispatch.F m2 l2]
experts.B m0 l3
  [dispatch.B m0 l3]
experts.F m2 l2
  [combine.F m2 l2]
attention.B m0 l3
)");
}

// The MTP module's part of the loss comes from its own head; its stage begins with the main one.
TEST(Lower, MtpModuleAlone) {
  StepShape shape = layer_per_stage(2);
  shape.num_hidden_layers = 1;
  const Schedule schedule = schedule_1f1b({.positions = 2, .microbatches = 1});
  shape.buckets[1].front().layers = {0, 1};
  EXPECT_EQ(text_of(lower_step(shape, schedule, false)[1]), R"(
    0 pipe     receive.F m0 l1 with 0 receives 64 rows
    1 compute  head.F m0 l0 after 0
    2 compute  attention.F m0 l1
    3 near     dispatch.F m0 l1 capacity 128 rows after 2
    4 compute  shared.F m0 l1
    5 compute  experts.F m0 l1 capacity 128 rows after 3
    6 near     combine.F m0 l1 capacity 128 rows after 5
    7 compute  head.F m0 l1 after 6
    8 compute  head.B m0 l1
    9 near     combine.B m0 l1 capacity 128 rows after 8
   10 compute  shared.B m0 l1
   11 compute  experts.B m0 l1 capacity 128 rows after 9
   12 near     dispatch.B m0 l1 capacity 128 rows after 11
   13 compute  experts.W m0 l1 capacity 128 rows
   14 compute  shared.W m0 l1
   15 compute  attention.B m0 l1 after 12
   16 compute  attention.W m0 l1
   17 compute  head.B m0 l0
   18 shard    reduce_gradients b0 after 17
   19 pipe     send.B m0 l1 with 0 sends 64 rows after 17
)");
}

TEST(Lower, EvaluationIsForwardOnly) {
  const Schedule schedule = schedule_dualpipe({.positions = 2, .microbatches = 4});
  StepShape shape = layer_per_stage(2);
  shape.has_shared_experts = false;
  shape.buckets = {{}, {}};
  const std::vector<Program> programs = lower_evaluation(shape, schedule);
  EXPECT_EQ(text_of(programs[0]), R"(
    0 compute  embed.F m0
    1 compute  attention.F m0 l0
    2 near     dispatch.F m0 l0 capacity 128 rows after 1
    3 compute  experts.F m0 l0 capacity 128 rows after 2
    4 near     combine.F m0 l0 capacity 128 rows after 3
    5 pipe     send.F m0 l1 with 1 sends 64 rows after 4
)");
  EXPECT_EQ(text_of(programs[1]), R"(
    0 pipe     receive.F m0 l1 with 0 receives 64 rows
    1 compute  attention.F m0 l1 after 0
    2 near     dispatch.F m0 l1 capacity 128 rows after 1
    3 compute  experts.F m0 l1 capacity 128 rows after 2
    4 near     combine.F m0 l1 capacity 128 rows after 3
    5 compute  head.F m0 l1 after 4
)");
}

}  // namespace
}  // namespace strait
