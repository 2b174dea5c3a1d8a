#include "parallel/program/validate.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "core/errors.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/program/happens_before.h"
#include "parallel/program/rendezvous.h"
#include "tests/parallel/step_shapes.h"

namespace strait {
namespace {

struct Step {
  explicit Step(const char* name, int positions, int microbatches, const ShapeOptions& options = {},
                bool with_boundary = true)
      : schedule(make_schedule(name, {.positions = positions, .microbatches = microbatches})),
        shape(shape_for(schedule, options)),
        boundary(with_boundary),
        programs(lower_step(shape, schedule, with_boundary)) {}

  std::vector<std::string> problems() const {
    std::vector<std::string> texts;
    for (const Problem& problem : validate(shape, schedule, programs, boundary)) texts.push_back(problem.text);
    return texts;
  }
  Program& program(int position) { return programs[static_cast<size_t>(position)]; }
  int find(int position, const std::string& name) const {
    const std::vector<Task>& tasks = programs[static_cast<size_t>(position)].tasks;
    for (size_t i = 0; i < tasks.size(); ++i)
      if (to_string(tasks[i]) == name) return static_cast<int>(i);
    throw std::logic_error(name + " is not in the program:\n" + to_string(programs[static_cast<size_t>(position)]));
  }
  Task& task(int position, const std::string& name) {
    return program(position).tasks[static_cast<size_t>(find(position, name))];
  }
  // Moves a task to before another; edges follow.
  void move(int position, const std::string& name, const std::string& before) {
    const int from = find(position, name), to = find(position, before);
    std::vector<Task>& tasks = program(position).tasks;
    std::vector<int> order;
    for (int i = 0; i < static_cast<int>(tasks.size()); ++i) {
      if (i == to) order.push_back(from);
      if (i != from) order.push_back(i);
    }
    std::vector<int> place(order.size());
    for (size_t i = 0; i < order.size(); ++i) place[static_cast<size_t>(order[i])] = static_cast<int>(i);
    std::vector<Task> moved;
    for (const int old : order) {
      moved.push_back(tasks[static_cast<size_t>(old)]);
      for (int& edge : moved.back().after) edge = place[static_cast<size_t>(edge)];
    }
    tasks = std::move(moved);
  }

  Schedule schedule;
  StepShape shape;
  bool boundary;
  std::vector<Program> programs;
};

using Texts = std::vector<std::string>;

TEST(Validate, LoweredStepsAreProven) {
  for (const std::string& name : schedule_names())
    for (const int positions : {1, 2, 4, 6})
      for (const int layers : {1, 3})
        for (const int waves : {1, 2})
          for (const bool mtp : {false, true})
            for (const bool boundary : {false, true}) {
              if (positions == 1 && name == "dualpipe") continue;
              const ShapeOptions options{.layers_per_stage = layers,
                                         .mtp = mtp,
                                         .exchanges = layers == 1 || waves == 2,
                                         .shared_experts = layers == 3,
                                         .waves = waves};
              const Step step(name.c_str(), positions, 2 * positions, options, boundary);
              EXPECT_EQ(step.problems(), Texts{})
                  << fmt::format("{} at {} positions, {} layers a stage, {} waves, MTP {}", name, positions, layers, waves, mtp);
            }
}

TEST(Validate, PiecesOfWork) {
  const Step valid("1f1b", 2, 2);  // layers 0, 1 | 2, 3 (MTP)
  {
    Step step = valid;
    step.task(1, "experts.F m1 l2").microbatch = 0;
    EXPECT_EQ(step.problems()[0].substr(0, 55), "[position 1] experts.F m0 l2 is done twice, by tasks ")
        << step.problems()[0];
    EXPECT_EQ(step.problems()[1], "[position 1] experts.F m1 l2 is missing");
  }
  {
    Step step = valid;
    step.task(0, "attention.W m1 l1").layer = 2;
    EXPECT_NE(step.problems()[0].find("attention.W m1 l2 (task "), std::string::npos);
    EXPECT_NE(step.problems()[0].find(") is not this position's work"), std::string::npos);
  }
  {
    Step step = valid;
    step.task(1, "dispatch.F m1 l2").capacity_rows = 128;
    step.task(1, "combine.F m1 l2").lane = Lane::far;
    EXPECT_EQ(step.problems(), (Texts{"[position 1] dispatch.F m1 l2 has a capacity of 128 rows, not of 256",
                                      "[position 1] combine.F m1 l2 is on lane far, not on near"}));
  }
}

TEST(Validate, Order) {
  Step step("1f1b", 2, 2);
  step.task(1, "experts.F m1 l2").after.clear();
  EXPECT_EQ(step.problems(), Texts{"[position 1] experts.F m1 l2 starts before dispatch.F m1 l2 has finished"});

  Step later("1f1b", 2, 2);
  Task& task = later.task(1, "experts.F m1 l2");
  task.after = {later.find(1, "experts.F m1 l2") + 1};
  EXPECT_NE(later.problems()[0].find("which is not an earlier one"), std::string::npos) << later.problems()[0];
}

TEST(Validate, WeightGradientsInOrderOfMicroBatches) {
  Step step("zb1p", 2, 4);
  std::swap(step.task(1, "mlp.W m1 l0"), step.task(1, "mlp.W m2 l0"));
}

}  // namespace
}  // namespace strait
