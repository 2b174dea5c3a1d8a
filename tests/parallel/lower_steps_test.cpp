// What holds for every lowered step, over schedules, positions, micro-batches and shapes.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "core/errors.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/program/validate.h"
#include "tests/parallel/uneven_shapes.h"

namespace strait {
namespace {

struct Step {
  std::string name;
  Schedule schedule;
  StepShape shape;
  bool with_boundary = false;
  std::vector<Program> programs;
};

void for_each_schedule(int most_positions, std::initializer_list<int> microbatches,
                       const std::function<void(const Schedule&)>& body) {
  for (const std::string& name : schedule_names())
    for (int positions = 1; positions <= most_positions; ++positions)
      for (const int count : microbatches) {
        Schedule schedule;
        try {
          schedule = make_schedule(name, {.positions = positions, .microbatches = count});
        } catch (const RecipeError&) {
          continue;  // odd positions, too few micro-batches
        }
        body(schedule);
      }
}

const UnevenOptions kShapes[] = {
    {},
    {.more_layers = 3, .num_dense = 2, .mtp = true, .seed = 1},
    {.more_layers = 2, .num_dense = 1, .shared_experts = false, .waves = 2, .seed = 2},
    {.more_layers = 4, .num_dense = 1000, .seed = 3},
    {.more_layers = 1, .mtp = true, .exchanges = false, .waves = 3, .seed = 4},
    {.more_layers = 5, .num_dense = 3, .mtp = true, .mtp_alone = true, .waves = 4, .seed = 5},
};

// Every schedule with every shape, with and without the boundary.
void for_each_step(int most_positions, std::initializer_list<int> microbatches,
                   const std::function<void(const Step&)>& body) {
  for_each_schedule(most_positions, microbatches, [&](const Schedule& schedule) {
    for (size_t number = 0; number < std::size(kShapes); ++number) {
      UnevenOptions options = kShapes[number];
      options.seed *= 31u + static_cast<unsigned>(schedule.num_stages);
      if (options.mtp_alone && schedule.num_stages < 2) continue;
      for (const bool with_boundary : {false, true}) {
        const StepShape shape = uneven_shape(schedule, options);
        body({.name = fmt::format("{}, {} positions, {} micro-batches, shape {}", schedule.name,
                                  schedule.num_positions(), schedule.num_microbatches, number),
              .schedule = schedule,
              .shape = shape,
              .with_boundary = with_boundary,
              .programs = lower_step(shape, schedule, with_boundary)});
      }
    }
  });
}

int64_t count(const Step& step, const std::function<bool(const Task&)>& which) {
  int64_t number = 0;
  for (const Program& program : step.programs)
    number += std::count_if(program.tasks.begin(), program.tasks.end(), which);
  return number;
}

TEST(LowerSteps, AreProven) {
  int steps = 0;
  for_each_step(6, {1, 2, 4, 6, 12}, [&](const Step& step) {
    const std::vector<Problem> problems =
        validate(step.shape, step.schedule, step.programs, step.with_boundary);
    ASSERT_TRUE(problems.empty()) << step.name << ": " << problems.front().text;
    ++steps;
  });
  EXPECT_GT(steps, 1000);
}

// By sums alone, apart from what validate() knows.
TEST(LowerSteps, HaveTheWorkOfTheModel) {
  for_each_step(6, {4, 12}, [&](const Step& step) {
    SCOPED_TRACE(step.name);
    const StepShape& shape = step.shape;
    const int64_t m = step.schedule.num_microbatches;
    const auto layers = static_cast<int64_t>(shape.layer_is_moe.size());
    const int64_t moe = std::count(shape.layer_is_moe.begin(), shape.layer_is_moe.end(), true);
    const auto of = [&](Kind kind) {
      return count(step, [&](const Task& task) { return task.kind == kind; });
    };
    ASSERT_EQ(of(Kind::attention), 3 * m * layers);
    ASSERT_EQ(of(Kind::mlp), 3 * m * (layers - moe));
    ASSERT_EQ(of(Kind::experts), 3 * m * moe * shape.waves);
    ASSERT_EQ(of(Kind::shared), shape.has_shared_experts ? 3 * m * moe : 0);
    ASSERT_EQ(of(Kind::dispatch), shape.exchanges ? 2 * m * moe * shape.waves : 0);
    ASSERT_EQ(of(Kind::combine), shape.exchanges ? 2 * m * moe * shape.waves : 0);
    ASSERT_EQ(of(Kind::embed), 2 * m);
    ASSERT_EQ(of(Kind::head), 2 * m * (shape.has_mtp() ? 2 : 1));
    int64_t boundaries = 0;  // between stages on different positions
    for (int microbatch = 0; microbatch < m; ++microbatch)
      for (int stage = 0; stage + 1 < step.schedule.num_stages; ++stage) {
        const int copy = step.schedule.copy_of(microbatch);
        boundaries += step.schedule.place_of(stage, copy).position !=
                      step.schedule.place_of(stage + 1, copy).position;
      }
    ASSERT_EQ(of(Kind::send) + of(Kind::swap), 2 * boundaries);
    ASSERT_EQ(of(Kind::receive) + of(Kind::swap), 2 * boundaries);
    int64_t buckets = 0;
    for (const auto& position : shape.buckets) buckets += static_cast<int64_t>(position.size());
    ASSERT_EQ(of(Kind::reduce_gradients), buckets);
    for (const Kind kind : {Kind::update, Kind::gather_weights, Kind::pack_weights})
      ASSERT_EQ(of(kind), step.with_boundary ? buckets : 0);
    ASSERT_EQ(of(Kind::commit), step.with_boundary ? step.schedule.num_positions() : 0);
  });
}

// What has finished when each task starts, by its lane and its edges.
class Before {
 public:
  explicit Before(const Program& program) : program_(program) {
    std::array<int, kNumLanes> last;
    last.fill(-1);
    for (size_t i = 0; i < program.tasks.size(); ++i) {
      int& previous = last[static_cast<size_t>(program.tasks[i].lane)];
      previous_.push_back(previous);
      before_.push_back(without_edge(i, -1));
      previous = static_cast<int>(i);
    }
  }
  // As if one of its edges were missing.
  std::vector<bool> without_edge(size_t task, int missing) const {
    std::vector<bool> before(program_.tasks.size(), false);
    const auto add = [&](int other) {
      if (other < 0 || other == missing) return;
      const std::vector<bool>& more = before_[static_cast<size_t>(other)];
      for (size_t i = 0; i < more.size(); ++i) before[i] = before[i] || more[i];
      before[static_cast<size_t>(other)] = true;
    };
    add(previous_[task]);
    for (const int other : program_.tasks[task].after) add(other);
    return before;
  }

 private:
  const Program& program_;
  std::vector<int> previous_;
  std::vector<std::vector<bool>> before_;
};

TEST(LowerSteps, HaveNoEdgeTooMany) {
  int edges = 0;
  for_each_step(3, {2, 6}, [&](const Step& step) {
    for (const Program& program : step.programs) {
      if (program.tasks.size() > 400) continue;
      const Before before(program);
      for (size_t i = 0; i < program.tasks.size(); ++i)
        for (const int edge : program.tasks[i].after) {
          ASSERT_FALSE(before.without_edge(i, edge)[static_cast<size_t>(edge)])
              << step.name << ": " << to_string(program.tasks[i]) << " after "
              << to_string(program.tasks[static_cast<size_t>(edge)]);
          ++edges;
        }
    }
  });
  EXPECT_GT(edges, 10000);
}

// Sums have the same bits under every schedule: each parameter's terms come in the order of the
// micro-batches.
TEST(LowerSteps, AddGradientsInOrder) {
  for_each_step(6, {2, 6, 12}, [&](const Step& step) {
    for (const Program& program : step.programs) {
      std::map<std::tuple<Kind, int, int, int>, int> latest;  // [kind, layer, part, chunk]
      for (const Task& task : program.tasks) {
        const bool adds = task.pass == Pass::weight_gradient ||
                          (task.pass == Pass::input_gradient &&
                           (task.kind == Kind::head || task.kind == Kind::embed));
        if (!adds) continue;
        const auto [found, is_new] =
            latest.try_emplace({task.kind, task.layer, task.part, task.chunk}, task.microbatch);
        ASSERT_TRUE(is_new || found->second < task.microbatch) << step.name << to_string(task);
        found->second = task.microbatch;
      }
    }
  });
}

TEST(LowerSteps, WavesShareALayer) {
  const Schedule schedule = schedule_dualpipe({.positions = 2, .microbatches = 4});
  for (int waves = 1; waves <= 4; ++waves) {
    const StepShape shape = uneven_shape(schedule, {.more_layers = 2, .waves = waves});
    for (const Program& program : lower_step(shape, schedule, false)) {
      std::map<std::tuple<Kind, Pass, int, int>, int> parts;
      for (const Task& task : program.tasks) {
        const bool in_parts =
            task.kind == Kind::experts || task.kind == Kind::dispatch || task.kind == Kind::combine;
        ASSERT_EQ(task.num_parts, in_parts ? waves : 1) << to_string(task);
        if (!in_parts) continue;
        // One after the other, each with room for every row.
        ASSERT_EQ(task.part,
                  parts[std::tuple(task.kind, task.pass, task.microbatch, task.layer)]++);
        ASSERT_EQ(task.capacity_rows, shape.exchange_capacity_rows);
      }
      for (const auto& [key, count] : parts) ASSERT_EQ(count, waves);
    }
  }
}

// A lone layer with waves: rows of the later parts are on their way before the first results go
// back.
TEST(LowerSteps, AllDispatchesOfALayerComeFirst) {
  const Schedule schedule = schedule_1f1b({.microbatches = 1});
  const StepShape shape = uneven_shape(schedule, {.waves = 3});
  const std::vector<Program> programs = lower_step(shape, schedule, false);
  std::string order;
  for (const Task& task : programs.front().tasks)
    if (task.lane == shape.exchange_lane && task.pass == Pass::forward)
      order += fmt::format("{}{} ", name_of(task.kind)[0], task.part);
  EXPECT_EQ(order, "d0 d1 d2 c0 c1 c2 ");
}

TEST(LowerSteps, OppositeMessagesSwap) {
  const StepShape shape = uneven_shape(schedule_1f1b({.positions = 4, .microbatches = 8}), {});
  const auto swaps = [](const std::vector<Program>& programs) {
    int64_t count = 0;
    for (const Program& program : programs)
      for (const Task& task : program.tasks) count += task.kind == Kind::swap;
    return count;
  };
  const Schedule schedule = schedule_1f1b({.positions = 4, .microbatches = 8});
  const std::vector<Program> programs = lower_step(shape, schedule, false);
  // At each of 3 boundaries, once the warm-up's forwards are under way: the next micro-batch goes
  // as the gradient of an earlier one comes, M - (warm-up of the earlier position + 1) times.
  EXPECT_EQ(swaps(programs), 2 * ((8 - 4) + (8 - 3) + (8 - 2)));
  for (const Program& program : programs)
    for (const Task& task : program.tasks) {
      if (task.kind != Kind::swap) continue;
      EXPECT_NE(task.send.pass, task.receive.pass);
      EXPECT_EQ(task.send.layer, task.receive.layer);
      EXPECT_EQ(task.positions.size(), 1u);
    }
}

TEST(LowerSteps, EvaluationReachesEveryLayerOnce) {
  for_each_schedule(6, {12}, [&](const Schedule& schedule) {
    const StepShape shape = uneven_shape(schedule, kShapes[1]);
    const std::vector<Program> programs = lower_evaluation(shape, schedule);
    ASSERT_EQ(programs.size(), static_cast<size_t>(schedule.num_positions()));
    std::set<int> layers;
    size_t tasks = 0, sends = 0, receives = 0;
    for (const Program& program : programs) {
      EXPECT_EQ(program.num_microbatches, 1);
      for (const Task& task : program.tasks) {
        ASSERT_EQ(task.pass, Pass::forward) << to_string(task);
        ASSERT_EQ(task.microbatch, 0) << to_string(task);
        if (task.kind == Kind::attention) layers.insert(task.layer), ++tasks;
        sends += task.kind == Kind::send;
        receives += task.kind == Kind::receive;
      }
    }
    EXPECT_EQ(layers.size(), shape.layer_is_moe.size()) << schedule.name;
    EXPECT_EQ(tasks, shape.layer_is_moe.size()) << schedule.name;
    EXPECT_EQ(sends, receives);
    // A V turns once without a message.
    const bool turns =
        schedule.num_stages > schedule.num_positions() && schedule.name != "interleaved";
    const bool alone = schedule.num_positions() == 1;
    EXPECT_EQ(sends, alone ? 0 : static_cast<size_t>(schedule.num_stages - 1 - turns))
        << schedule.name << schedule.num_positions();
  });
}

// Weights are gathered in the order forward needs them, and in one order by all that share them.
TEST(LowerSteps, GathersAgree) {
  const Schedule schedule = schedule_dualpipe({.positions = 4, .microbatches = 8});
  const StepShape shape = uneven_shape(schedule, {.more_layers = 3, .mtp = true, .seed = 7});
  for (const bool commits : {false, true}) {
    std::map<std::set<int>, std::map<int, std::vector<std::string>>> orders;
    const std::vector<Program> programs = commits ? lower_settle(shape) : lower_load(shape);
    ASSERT_EQ(programs.size(), 4u);
    for (const Program& program : programs) {
      int layer = -1;
      size_t gathers = 0;
      const auto& buckets = shape.buckets[static_cast<size_t>(program.position)];
      for (const Task& task : program.tasks) {
        EXPECT_EQ(task.kind == Kind::commit || task.kind == Kind::update ||
                      task.kind == Kind::gradient_norm,
                  commits && task.kind != Kind::gather_weights && task.kind != Kind::pack_weights);
        if (task.kind == Kind::commit) {
          EXPECT_EQ(task.positions.size(), 3u);
        }
        if (task.kind != Kind::gather_weights) continue;
        ++gathers;
        const BucketShape& bucket = buckets[static_cast<size_t>(task.bucket)];
        EXPECT_EQ(task.positions, bucket.positions);
        const int first = bucket.name == "embedding"
                              ? -1
                              : *std::min_element(bucket.layers.begin(), bucket.layers.end());
        EXPECT_GE(first, layer);
        layer = first;
        std::set<int> members(bucket.positions.begin(), bucket.positions.end());
        members.insert(program.position);
        orders[members][program.position].push_back(bucket.name);
      }
      EXPECT_EQ(gathers, buckets.size());
    }
    for (const auto& [members, by_position] : orders) {
      EXPECT_EQ(by_position.size(), members.size());
      for (const auto& [position, order] : by_position)
        EXPECT_EQ(order, by_position.begin()->second);
    }
  }
}

}  // namespace
}  // namespace strait
