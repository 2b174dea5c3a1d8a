// The order of messages costs little, also when slots do not take their nominal times: pipe lanes
// in order, sends that wait for their receives, against slots that start as soon as their inputs
// are made.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "parallel/pipeline/run_slots.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/sim/simulate.h"
#include "tests/parallel/uneven_shapes.h"

namespace strait {
namespace {

// Of one layer of each stage, and of the head.
struct Times {
  std::vector<double> forward, input, weight;
  double head = 1;

  double layer(int stage, Pass pass) const {
    const std::vector<double>& of = pass == Pass::forward          ? forward
                                    : pass == Pass::input_gradient ? input
                                                                   : weight;
    return of[static_cast<size_t>(stage)];
  }
};

Times nominal(int num_stages) {
  const std::vector<double> ones(static_cast<size_t>(num_stages), 1.0);
  return {.forward = ones, .input = ones, .weight = ones};
}

// Messages take no time, attention and MLP half a layer each.
double lowered_makespan(const StepShape& shape, const Schedule& schedule, const Times& times) {
  const std::vector<Program> programs = lower_step(shape, schedule, false);
  std::vector<std::vector<TaskCost>> costs;
  for (const Program& program : programs) {
    std::vector<TaskCost>& own = costs.emplace_back();
    for (const Task& task : program.tasks) {
      TaskCost cost;
      if (task.kind == Kind::head) cost.seconds = times.head;
      if (task.kind == Kind::attention || task.kind == Kind::mlp) {
        int stage = 0;
        while (shape.stages[static_cast<size_t>(stage)].end_layer <= task.layer) ++stage;
        cost.seconds = times.layer(stage, task.pass) / 2;
      }
      own.push_back(cost);
    }
  }
  return simulate(programs, costs).makespan;
}

double slots_makespan(const StepShape& shape, const Schedule& schedule, const Times& times) {
  std::vector<std::vector<double>> durations;
  for (size_t position = 0; position < schedule.slots.size(); ++position) {
    const std::vector<Slot>& slots = schedule.slots[position];
    std::vector<double>& own = durations.emplace_back();
    for (const Slot& slot : slots) {
      const int stage = schedule.chunks[position][static_cast<size_t>(slot.chunk)].stage;
      const StageLayers& layers = shape.stages[static_cast<size_t>(stage)];
      const double head = layers.has_head ? times.head : 0;
      const auto take = [&](Pass pass) {
        return (layers.end_layer - layers.first_layer) * times.layer(stage, pass);
      };
      double seconds = 0;
      if (slot.work == Work::forward) seconds = take(Pass::forward) + head;
      if (slot.work == Work::backward || slot.work == Work::input_gradient)
        seconds += take(Pass::input_gradient) + head;
      if (slot.work == Work::backward || slot.work == Work::weight_gradient)
        seconds += take(Pass::weight_gradient);
      own.push_back(seconds);
    }
    for (size_t slot = 0; slot + 1 < own.size(); ++slot)
      if (slots[slot].paired) own[slot] += own[slot + 1];
  }
  double makespan = 0;
  for (const auto& position : run_slots(schedule, durations).times)
    for (const SlotTime& time : position) makespan = std::max(makespan, time.end);
  return makespan;
}

struct Case {
  const char* name;
  int positions, microbatches;
};
constexpr Case kCases[] = {{"1f1b", 8, 20},  {"zb1p", 8, 20},      {"interleaved", 8, 24},
                           {"zbv", 8, 20},   {"dualpipe", 8, 20},  {"dualpipev", 8, 20},
                           {"zb1p", 16, 48}, {"dualpipe", 16, 48}, {"zbv", 16, 48}};

Schedule schedule_of(const Case& c) {
  return make_schedule(c.name, {.positions = c.positions, .microbatches = c.microbatches});
}

// With nominal times a lowered step is no slower than its slots, and faster where a gradient leaves
// before its slot ends.
TEST(LowerOrder, CostsNothingWithNominalTimes) {
  for (const Case& c : kCases) {
    const Schedule schedule = schedule_of(c);
    for (const unsigned seed : {0u, 1u, 2u}) {
      const StepShape shape = uneven_shape(
          schedule, {.more_layers = schedule.num_stages, .num_dense = 1000, .seed = seed});
      const Times times = nominal(schedule.num_stages);
      EXPECT_LE(lowered_makespan(shape, schedule, times),
                slots_makespan(shape, schedule, times) * (1 + 1e-9))
          << c.name << " " << c.positions << " " << seed;
    }
  }
}

TEST(LowerOrder, CostsLittleWithOtherTimes) {
  std::mt19937 random(11);
  const auto between = [&](double low, double high) {
    return low + (high - low) * static_cast<double>(random() % 1000) / 999;
  };
  for (const Case& c : kCases) {
    const Schedule schedule = schedule_of(c);
    const StepShape shape =
        uneven_shape(schedule, {.more_layers = schedule.num_stages, .num_dense = 1000});
    for (const double head : {0.0, 0.5, 2.0}) {
      Times times = nominal(schedule.num_stages);
      times.head = head;
      for (int stage = 0; stage < schedule.num_stages; ++stage) {
        const auto s = static_cast<size_t>(stage);
        times.forward[s] = between(0.9, 1.1);
        times.input[s] = 1.5 * between(0.9, 1.1);
        times.weight[s] = 0.6 * between(0.9, 1.1);
      }
      EXPECT_LE(lowered_makespan(shape, schedule, times),
                slots_makespan(shape, schedule, times) * 1.10)
          << c.name << " " << c.positions << " head " << head;
    }
  }
}

// The published schedule at its published size: DeepSeek's DualPipe, R = 8, M = 20 and R = 16, M =
// 120 with F = 1, B = 2, W = 1 and F&B = 3.
TEST(LowerOrder, DualPipeTakesItsPublishedTime) {
  for (const auto& [positions, microbatches, published] :
       {std::tuple(8, 20, 66.0), {16, 120, 374.0}}) {
    const Schedule schedule =
        schedule_dualpipe({.positions = positions, .microbatches = microbatches});
    const StepShape shape = uneven_shape(schedule, {.num_dense = 1000});
    Times times = nominal(positions);
    times.head = 0;
    EXPECT_DOUBLE_EQ(slots_makespan(shape, schedule, times), published);
    EXPECT_LE(lowered_makespan(shape, schedule, times), published * 1.01);
  }
}

}  // namespace
}  // namespace strait
