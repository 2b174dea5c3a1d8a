#include "parallel/program/validate.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <tuple>

#include "core/errors.h"
#include "core/scramble.h"
#include "parallel/pipeline/pairing.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/program/happens_before.h"
#include "parallel/program/rendezvous.h"
#include "tests/parallel/brute_order.h"
#include "tests/parallel/step_shapes.h"

namespace strait {
namespace {

using Texts = std::vector<std::string>;

struct Step {
  Step(const char* name, int positions, int microbatches, const ShapeOptions& options = {})
      : Step(make_schedule(name, {.positions = positions, .microbatches = microbatches}), options) {
  }
  Step(Schedule of, const ShapeOptions& options, bool with_boundary = true)
      : schedule(std::move(of)),
        shape(shape_for(schedule, options)),
        boundary(with_boundary),
        programs(lower_step(shape, schedule, with_boundary)) {}

  std::vector<std::string> problems() const {
    std::vector<std::string> texts;
    for (const Problem& problem : validate(shape, schedule, programs, boundary))
      texts.push_back(problem.text);
    return texts;
  }
  Program& program(int position) { return programs[static_cast<size_t>(position)]; }
  int find(int position, const std::string& name) const {
    const std::vector<Task>& tasks = programs[static_cast<size_t>(position)].tasks;
    for (size_t i = 0; i < tasks.size(); ++i)
      if (to_string(tasks[i]) == name) return static_cast<int>(i);
    throw std::logic_error(name + " is not in the program");
  }
  Task& task(int position, const std::string& name) {
    return program(position).tasks[static_cast<size_t>(find(position, name))];
  }
  // A swap as two tasks, one after the other; who waited for it waits for both.
  void split(int position, const std::string& name, bool send_first) {
    const int swap = find(position, name);
    std::vector<Task>& tasks = program(position).tasks;
    for (Task& task : tasks) {
      const bool waits = std::erase(task.after, swap) > 0;
      for (int& edge : task.after) edge += edge > swap;
      if (waits) task.after.insert(task.after.end(), {swap, swap + 1});
    }
    Task send = tasks[static_cast<size_t>(swap)], receive = send;
    send.kind = Kind::send;
    send.receive = {};
    receive.kind = Kind::receive;
    receive.send = {};
    receive.pass = receive.receive.pass;
    receive.microbatch = receive.receive.microbatch;
    receive.after.clear();
    tasks[static_cast<size_t>(swap)] = send_first ? send : receive;
    tasks.insert(tasks.begin() + swap + 1, send_first ? receive : send);
  }

  Schedule schedule;
  StepShape shape;
  bool boundary;
  std::vector<Program> programs;
};

// For brute force alone: what is proven holds for all conflicting tasks.
std::string brute_problem(const Step& step) {
  try {
    const BruteOrder brute(step.shape, step.programs);
    return brute.num_conflicts() > 0 ? "" : "no conflicts";
  } catch (const std::logic_error& error) {
    return error.what();
  }
}

TEST(Validate, LoweredStepsAreProven) {
  for (const std::string& name : schedule_names())
    for (const int positions : {1, 2, 4, 6})
      for (const int layers : {1, 3})
        for (const int variant : {0, 1, 2, 3, 4, 5}) {
          if (name == "dualpipe" && positions == 1) continue;
          const ShapeOptions options{.layers_per_stage = layers,
                                     .mtp = variant % 2 == 1,
                                     .mtp_alone = variant == 3,
                                     .exchanges = variant != 4,
                                     .shared_experts = variant < 2,
                                     .waves = variant % 3 + 1};
          const Schedule schedule =
              make_schedule(name, {.positions = positions, .microbatches = 2 * positions});
          if (schedule.num_stages == 1 && options.mtp && (layers == 1 || options.mtp_alone))
            continue;
          for (const bool boundary : {false, true})
            for (const bool paired : {false, true}) {
              const Step step(paired ? pair_schedule(schedule).schedule : schedule, options,
                              boundary);
              const std::string which =
                  fmt::format("{} at {} positions, {} layers a stage, variant {}, paired {}", name,
                              positions, layers, variant, paired);
              EXPECT_EQ(step.problems(), Texts{}) << which;
              if (boundary && positions < 6 && paired == (layers == 3)) {
                EXPECT_EQ(brute_problem(step), "") << which;
              }
            }
        }
}

// Stages dealt out at random, a stage's two copies to two positions; then whatever can run next, at
// random, the micro-batches of a chunk in order.
Schedule random_schedule_in_order(uint64_t seed) {
  uint64_t state = seed << 32;
  const auto below = [&](int count) {
    return static_cast<int>(splitmix(++state) % static_cast<uint64_t>(count));
  };
  Schedule s;
  s.name = fmt::format("random {}", seed);
  s.num_stages = 1 + below(6);
  s.num_copies = 1 + below(2);
  s.num_microbatches = s.num_copies * (1 + below(4));
  const int positions = s.num_copies + below(std::clamp(s.num_stages + 1 - s.num_copies, 1, 3));
  s.chunks.resize(static_cast<size_t>(positions));
  s.slots.resize(static_cast<size_t>(positions));
  for (int stage = 0; stage < s.num_stages; ++stage) {
    const int first = stage < positions ? stage : below(positions);
    for (int copy = 0; copy < s.num_copies; ++copy) {
      const int position = (first + copy * (1 + below(positions - s.num_copies + 1))) % positions;
      s.chunks[static_cast<size_t>(position)].push_back({.stage = stage, .copy = copy});
    }
  }
  // Of a stage's copy: its next micro-batch for F, I and W.
  std::vector<std::array<int, 3>> next(static_cast<size_t>(s.num_stages * s.num_copies));
  const int per_copy = s.num_microbatches / s.num_copies;
  const auto at = [&](int stage, int copy) -> std::array<int, 3>& {
    return next[static_cast<size_t>(copy * s.num_stages + stage)];
  };
  for (int left = 3 * s.num_stages * s.num_microbatches; left > 0;) {
    const int stage = below(s.num_stages), copy = below(s.num_copies), work = below(4);
    auto& [forward, input, weight] = at(stage, copy);
    Slot slot;
    if (work == 0) {
      if (forward == per_copy || (stage > 0 && at(stage - 1, copy)[0] <= forward)) continue;
      slot = {.work = Work::forward, .microbatch = forward++};
    } else if (work == 3) {
      if (weight == input) continue;
      slot = {.work = Work::weight_gradient, .microbatch = weight++};
    } else {
      const bool ready = stage + 1 == s.num_stages || at(stage + 1, copy)[1] > input;
      if (input == forward || !ready || (work == 2 && weight != input)) continue;
      slot = {.work = work == 1 ? Work::input_gradient : Work::backward, .microbatch = input++};
      if (work == 2) ++weight, --left;
    }
    --left;
    const ChunkPlace place = s.place_of(stage, copy);
    slot.microbatch += copy * per_copy;
    slot.chunk = place.chunk;
    s.slots[static_cast<size_t>(place.position)].push_back(slot);
  }
  return s;
}

TEST(Validate, LoweredStepsOfRandomSchedulesAreProven) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Schedule schedule = random_schedule_in_order(seed);
    if (seed % 2 == 1) schedule = pair_neighbours(schedule);
    check_schedule(schedule);
    const ShapeOptions options{
        .layers_per_stage = 2, .mtp = seed % 3 == 0, .waves = 1 + static_cast<int>(seed % 4) / 3};
    const Step step(schedule, options);
    EXPECT_EQ(step.problems(), Texts{}) << schedule.name;
    EXPECT_EQ(brute_problem(step), "") << schedule.name;
  }
}

TEST(Validate, PiecesOfWork) {
  const Step valid("1f1b", 2, 2);  // layers 0, 1 | 2, 3 (MTP)
  {
    Step step = valid;
    const int first = step.find(1, "experts.F m0 l2"), second = step.find(1, "experts.F m1 l2");
    step.program(1).tasks[static_cast<size_t>(second)].microbatch = 0;
    EXPECT_EQ(step.problems(),
              (Texts{fmt::format("[position 1] experts.F m0 l2 is done twice, by tasks {} and {}",
                                 first, second),
                     "[position 1] experts.F m1 l2 is missing"}));
  }
  {
    Step step = valid;
    const int task = step.find(0, "attention.W m1 l1");
    step.program(0).tasks[static_cast<size_t>(task)].layer = 2;
    EXPECT_EQ(
        step.problems(),
        (Texts{fmt::format("[position 0] attention.W m1 l2 (task {}) is not this position's work",
                           task),
               "[position 0] attention.W m1 l1 is missing"}));
  }
  {
    Step step = valid;
    step.task(1, "dispatch.F m1 l2").capacity_rows = 128;
    step.task(1, "combine.F m1 l2").lane = Lane::far;
    step.task(0, "commit").positions.clear();
    EXPECT_EQ(step.problems(),
              (Texts{"[position 0] commit runs together with positions [], not with [1]",
                     "[position 1] dispatch.F m1 l2 has a capacity of 128 rows, not of 256",
                     "[position 1] combine.F m1 l2 is on lane far, not on near",
                     "[position 1] commit meets gather_weights of 'embedding' of position 0"}));
  }
  {
    Step step = valid;
    step.programs.pop_back();
    EXPECT_EQ(step.problems(), Texts{"1 programs for the 2 positions of 1f1b"});
  }
  {
    Step step = valid;
    step.program(1).num_microbatches = 4;
    EXPECT_EQ(step.problems(), Texts{"[position 1] its program is for 4 micro-batches, not for 2"});
  }
}

TEST(Validate, Order) {
  const Step valid("1f1b", 2, 2);
  {
    Step step = valid;
    step.task(1, "experts.F m1 l2").after.clear();
    EXPECT_EQ(step.problems(),
              Texts{"[position 1] experts.F m1 l2 starts before dispatch.F m1 l2 has finished"});
  }
  {
    Step step = valid;
    const int task = step.find(1, "experts.F m1 l2");
    step.program(1).tasks[static_cast<size_t>(task)].after = {task + 1};
    EXPECT_EQ(
        step.problems(),
        Texts{fmt::format(
            "[position 1] experts.F m1 l2 (task {}) is after task {}, which is not an earlier one",
            task, task + 1)});
  }
  {
    Step step = valid;
    step.task(0, "reduce_gradients b2").after.clear();  // the norms of stage 0
    step.task(0, "pack_weights b1").after.clear();      // layer 0
    Texts problems = step.problems();
    EXPECT_NE(
        std::find(problems.begin(), problems.end(),
                  "[position 0] pack_weights b1 starts before gather_weights b1 has finished"),
        problems.end());
  }
}

TEST(Validate, WeightGradientsAddUpInTheOrderOfMicroBatches) {
  Step step("zb1p", 4,
            8);  // the last position has its weight gradients late, and so next to one another
  const auto swapped = [&](int microbatch) {
    return fmt::format("attention.W m{} l7", microbatch);
  };
  std::swap(step.task(3, swapped(5)).microbatch, step.task(3, swapped(6)).microbatch);
  const Texts problems = step.problems();
  EXPECT_EQ(problems[0].substr(0, 12), "[position 3]");
  EXPECT_NE(
      std::find(problems.begin(), problems.end(),
                "[position 3] attention.W m6 l7 starts before attention.W m5 l7 has finished"),
      problems.end());
}

TEST(Validate, Messages) {
  const Step valid("1f1b", 2, 2);
  {
    Step step = valid;
    step.task(1, "receive.F m0 l2").receive.rows = 32;
    EXPECT_EQ(step.problems(), (Texts{"[position 1] receive.F m0 l2 receives 32 rows, not 64",
                                      "[position 1] receive.F m0 l2 expects 32 rows, not the 64 of "
                                      "send.F m0 l2 of position 0"}));
  }
  {
    Step step = valid;
    step.split(1, "swap.B m0 l2 for F m1 l2", true);
    EXPECT_EQ(step.problems(), (Texts{"[position 1] receive.F m1 l2 cannot be matched by swap.F m1 "
                                      "l2 for B m0 l2 of position 0",
                                      "[position 0] swap.F m1 l2 for B m0 l2 cannot be matched by "
                                      "send.B m0 l2 of position 1"}));
  }
  {
    Step step = valid;
    step.split(1, "swap.B m0 l2 for F m1 l2", true);
    step.split(0, "swap.F m1 l2 for B m0 l2", false);
    EXPECT_EQ(step.problems(), Texts{});
    std::swap(step.task(1, "receive.F m0 l2"), step.task(1, "receive.F m1 l2"));
    const Texts problems = step.problems();
    EXPECT_NE(std::find(problems.begin(), problems.end(),
                        "[position 1] receive.F m1 l2 meets send.F m0 l2 of position 0"),
              problems.end());
  }
}

TEST(Validate, CollectivesComeInOneOrder) {
  Step step("dualpipe", 2, 4);  // both positions hold everything
  const int first = step.find(1, "gather_weights b0"), second = step.find(1, "gather_weights b1");
  std::vector<Task>& tasks = step.program(1).tasks;
  std::swap(tasks[static_cast<size_t>(first)].bucket, tasks[static_cast<size_t>(second)].bucket);
  const Texts problems = step.problems();
  EXPECT_NE(std::find_if(problems.begin(), problems.end(),
                         [](const std::string& text) {
                           return text.find("meets gather_weights of") != text.npos;
                         }),
            problems.end());
}

// Both wait for the other's message before they send their own.
TEST(Validate, Deadlock) {
  Step step("1f1b", 2, 2);
  step.split(0, "swap.F m1 l2 for B m0 l2", false);
  step.split(1, "swap.B m0 l2 for F m1 l2", false);
  EXPECT_EQ(step.problems(), Texts{"[position 0] receive.B m0 l2 waits for [position 1] send.B m0 "
                                   "l2, which is behind [position 1] "
                                   "receive.F m1 l2; [position 1] receive.F m1 l2 waits for "
                                   "[position 0] send.F m1 l2, which is behind "
                                   "[position 0] receive.B m0 l2: a deadlock"});
}

Task task_on(Lane lane, std::vector<int> after = {}, std::vector<int> positions = {}) {
  return {.kind = Kind::commit,
          .lane = lane,
          .positions = std::move(positions),
          .after = std::move(after)};
}

// Task 3 of position 0 follows task 0 only by what position 1 does between the two things they do
// together.
TEST(HappensBefore, ThroughAnotherPosition) {
  const std::vector<Program> programs = {
      {.tasks = {task_on(Lane::near), task_on(Lane::shard, {0}, {1}), task_on(Lane::pipe, {}, {1}),
                 task_on(Lane::far, {2})},
       .position = 0},
      {.tasks = {task_on(Lane::shard, {}, {0}), task_on(Lane::pipe, {0}, {0})}, .position = 1}};
  const LocalOrder alone(programs[0]);
  EXPECT_TRUE(alone.before(0, 1));
  EXPECT_TRUE(alone.before(2, 3));
  EXPECT_FALSE(alone.before(0, 3));
  EXPECT_FALSE(alone.before(3, 0));
  const Rendezvous rendezvous = match_tasks(programs, std::vector<std::vector<BucketShape>>(2));
  ASSERT_TRUE(rendezvous.problems.empty());
  const StrictRun run(programs, rendezvous);
  EXPECT_FALSE(run.deadlock());
  const std::vector<Requirement> asked = {{0, 0, 3}, {0, 3, 0}, {0, 1, 2},
                                          {0, 2, 1}, {1, 0, 1}, {0, 0, 0}};
  EXPECT_EQ(run.hold(asked), (std::vector<bool>{true, false, true, false, true, false}));
  // More than fit into one pass.
  std::vector<Requirement> many;
  for (int i = 0; i < 200; ++i) many.push_back(asked[static_cast<size_t>(i % 6)]);
  const std::vector<bool> held = run.hold(many);
  for (size_t i = 0; i < many.size(); ++i)
    EXPECT_EQ(held[i], i % 6 == 0 || i % 6 == 2 || i % 6 == 4);
}

// Three positions, a collective of each two: every group is in order, the ring is not.
TEST(HappensBefore, DeadlockOfThree) {
  const auto program = [](int position, int first, int second) {
    return Program{.tasks = {task_on(Lane::shard, {}, {first}), task_on(Lane::shard, {}, {second})},
                   .position = position};
  };
  const std::vector<Program> programs = {program(0, 1, 2), program(1, 2, 0), program(2, 0, 1)};
  const Rendezvous rendezvous = match_tasks(programs, std::vector<std::vector<BucketShape>>(3));
  ASSERT_TRUE(rendezvous.problems.empty());
  const auto deadlock = StrictRun(programs, rendezvous).deadlock();
  ASSERT_TRUE(deadlock);
  EXPECT_EQ(deadlock->text,
            "[position 0] commit waits for [position 1] commit, which is behind [position 1] "
            "commit; [position 1] commit waits "
            "for [position 2] commit, which is behind [position 2] commit; [position 2] commit "
            "waits for [position 0] commit, "
            "which is behind [position 0] commit: a deadlock");
}

// Layer l keeps 1000 bytes until its input gradient and 10 until its weight gradient; attention
// only.
KeptBytes kept(const Task& task) {
  if (task.kind != Kind::attention) return {};
  return {.until_input_gradient = 1000, .until_weight_gradient = 10};
}

TEST(PeakUse, BytesAndChunks) {
  const auto task = [](Pass pass, int microbatch, int layer) {
    return Task{.kind = Kind::attention, .pass = pass, .microbatch = microbatch, .layer = layer};
  };
  Program program;
  const Pass f = Pass::forward, i = Pass::input_gradient, w = Pass::weight_gradient;
  program.tasks = {task(f, 0, 0), task(f, 0, 1), task(i, 0, 1), task(f, 1, 0),
                   task(i, 0, 0), task(w, 0, 1), task(w, 0, 0), task(f, 1, 1),
                   task(i, 1, 1), task(i, 1, 0), task(w, 1, 1), task(w, 1, 0)};
  const PeakUse peak = peak_use(program, kept);
  EXPECT_EQ(peak.bytes,
            2 * 1000 + 3 * 10);  // m0 l0, m1 l0 whole; of m0 l1 what its weight gradient needs
  EXPECT_EQ(peak.task, 3);
  EXPECT_EQ(peak.microbatches, 2);
  program.tasks.resize(3);
  EXPECT_EQ(peak_use(program, kept).bytes, 2020);
  EXPECT_EQ(peak_use(program, kept).task, 1);
  EXPECT_EQ(peak_use({}, kept).task, -1);
}

TEST(PeakUse, LiveChunksOfSchedules) {
  for (const auto& [name, positions, microbatches, live] :
       {std::tuple{"1f1b", 4, 8, 4}, {"dualpipe", 8, 20, 9}, {"dualpipe", 16, 120, 17}}) {
    const Step step(name, positions, microbatches);
    int most = 0;
    for (const Program& program : step.programs)
      most = std::max(most, peak_use(program, kept).microbatches);
    EXPECT_EQ(most, live) << name;
  }
}

// 16 positions, 120 micro-batches, 64 layers.
TEST(Validate, StepsAsLargeAsDeepSeekV3s) {
  Step step("dualpipe", 16, 120, {.layers_per_stage = 4});
  const auto problems = [&] {
    const auto start = std::chrono::steady_clock::now();
    const size_t found = step.problems().size();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    fmt::print("{} problems: {:.1f} s\n", found, seconds.count());
    return found;
  };
  EXPECT_EQ(problems(), 0U);
  for (Program& program : step.programs)  // the worst case: nothing waits for anything
    for (Task& task : program.tasks) task.after.clear();
  EXPECT_GT(problems(), 0U);
}

}  // namespace
}  // namespace strait
