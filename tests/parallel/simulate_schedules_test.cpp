// The simulator against the brute-force simulation on the programs of every schedule, boundary and
// reductions included.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "parallel/pipeline/schedules.h"
#include "parallel/program/lower.h"
#include "parallel/sim/simulate.h"
#include "tests/parallel/brute_force_simulation.h"

namespace strait {
namespace {

// Members of one task in programs that lower_step made: both ends of a message, or a collective of
// a bucket's name.
std::vector<std::vector<std::pair<int, int>>> members_of(const std::vector<Program>& programs,
                                                         const StepShape& shape) {
  std::map<std::string, std::vector<std::pair<int, int>>> jobs;
  for (const Program& program : programs)
    for (size_t i = 0; i < program.tasks.size(); ++i) {
      const Task& task = program.tasks[i];
      std::string key = std::to_string(program.position) + " " + std::to_string(i);
      const auto named = [](const Message& m) {
        return std::to_string(m.microbatch) + " " + std::to_string(static_cast<int>(m.pass)) + " " +
               std::to_string(m.layer);
      };
      if (task.lane == Lane::pipe) {
        // A swap has two messages: the smaller name names it on both sides.
        std::vector<std::string> names;
        if (task.send.microbatch >= 0) names.push_back(named(task.send));
        if (task.receive.microbatch >= 0) names.push_back(named(task.receive));
        key = "message " + *std::min_element(names.begin(), names.end());
      } else if (!task.positions.empty()) {
        key = std::string(name_of(task.kind));
        if (task.bucket >= 0)
          key +=
              shape.buckets[static_cast<size_t>(program.position)][static_cast<size_t>(task.bucket)]
                  .name;
      }
      jobs[key].emplace_back(program.position, static_cast<int>(i));
    }
  std::vector<std::vector<std::pair<int, int>>> members;
  for (const auto& [key, places] : jobs) {
    for (const auto& [p, i] : places)
      EXPECT_EQ(places.size(),
                programs[static_cast<size_t>(p)].tasks[static_cast<size_t>(i)].positions.size() + 1)
          << key;
    members.push_back(places);
  }
  return members;
}

// One MoE layer a stage; mirrored positions share their buckets where the schedule has two copies.
StepShape small_shape(const Schedule& schedule) {
  StepShape shape{.layer_is_moe = std::vector<bool>(static_cast<size_t>(schedule.num_stages), true),
                  .num_hidden_layers = schedule.num_stages,
                  .has_shared_experts = true,
                  .stages = {},
                  .buckets = {},
                  .exchange_lane = Lane::far,
                  .microbatch_rows = 8,
                  .exchange_capacity_rows = 16};
  for (int stage = 0; stage < schedule.num_stages; ++stage)
    shape.stages.push_back({.first_layer = stage,
                            .end_layer = stage + 1,
                            .embeds = stage == 0,
                            .has_head = stage == schedule.num_stages - 1});
  for (int p = 0; p < schedule.num_positions(); ++p) {
    shape.buckets.emplace_back();
    for (const Chunk& chunk : schedule.chunks[static_cast<size_t>(p)]) {
      BucketShape bucket{
          .layers = {chunk.stage}, .name = "layer " + std::to_string(chunk.stage), .positions = {}};
      if (chunk.stage == 0) bucket.layers.push_back(-1);
      for (int copy = 0; copy < schedule.num_copies; ++copy)
        if (schedule.place_of(chunk.stage, copy).position != p)
          bucket.positions.push_back(schedule.place_of(chunk.stage, copy).position);
      shape.buckets.back().push_back(bucket);
    }
  }
  return shape;
}

TEST(SimulateSchedules, LoweredSchedulesTakeEqualTimes) {
  std::mt19937 random(5);
  for (const std::string& name : schedule_names()) {
    const Schedule schedule = make_schedule(name, {.positions = 4, .microbatches = 8});
    const StepShape shape = small_shape(schedule);
    const std::vector<Program> programs = lower_step(shape, schedule, true);
    std::vector<std::vector<TaskCost>> costs;
    for (const Program& program : programs) {
      costs.emplace_back();
      for (size_t i = 0; i < program.tasks.size(); ++i)
        costs.back().push_back(random_cost(random, random() % 2 == 0));
    }
    BruteForce brute(programs, costs, members_of(programs, shape));
    expect_equal_times(simulate(programs, costs).times, brute.run());
    EXPECT_EQ(brute.num_unfinished(), 0u) << name;
  }
}

}  // namespace
}  // namespace strait
