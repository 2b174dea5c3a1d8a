// The simulator against the simplest event simulation there is, on thousands of random small
// programs.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "parallel/sim/simulate.h"
#include "tests/parallel/brute_force_simulation.h"

namespace strait {
namespace {

struct RandomStep {
  std::vector<Program> programs;
  std::vector<std::vector<TaskCost>> costs;
  std::vector<std::vector<std::pair<int, int>>> members;  // [job]: (position, task)
};

// Jobs are added one after the other to the programs of all their members, so they can all end in
// that order.
class RandomSteps {
 public:
  explicit RandomSteps(uint32_t seed) : random_(seed) {}

  RandomStep next() {
    RandomStep step;
    const int num_positions = 1 + below(4), num_jobs = 3 + below(28);
    // Round figures make many events fall together, others none.
    round_ = below(2) == 0;
    for (int p = 0; p < num_positions; ++p)
      step.programs.push_back({.tasks = {}, .num_microbatches = 1, .position = p});
    step.costs.resize(step.programs.size());
    for (int job = 0; job < num_jobs; ++job) add_job(step, job);
    return step;
  }

 private:
  int below(int end) { return static_cast<int>(random_() % static_cast<unsigned>(end)); }

  void add_job(RandomStep& step, int job) {
    std::vector<int> positions(step.programs.size());
    for (size_t p = 0; p < positions.size(); ++p) positions[p] = static_cast<int>(p);
    std::shuffle(positions.begin(), positions.end(), random_);
    const size_t most = below(3) ? 1 : positions.size();
    positions.resize(1 + static_cast<size_t>(below(static_cast<int>(most))));
    const bool is_message = positions.size() == 2 && below(2), is_swap = below(2);
    const Lane lane = is_message ? Lane::pipe : static_cast<Lane>(below(kNumLanes));
    const Message one{.microbatch = job, .layer = 1, .rows = 1},
        two{.microbatch = job, .layer = 2, .rows = 1};
    step.members.emplace_back();
    for (size_t m = 0; m < positions.size(); ++m) {
      Task task{.kind = Kind::reduce_gradients, .lane = lane};
      if (is_message) {
        task.kind = is_swap ? Kind::swap : m == 0 ? Kind::send : Kind::receive;
        if (is_swap || m == 0) task.send = m == 0 ? one : two;
        if (is_swap || m == 1) task.receive = m == 0 ? two : one;
      }
      for (const int other : positions)
        if (other != positions[m]) task.positions.push_back(other);
      const size_t p = static_cast<size_t>(positions[m]);
      const int index = static_cast<int>(step.programs[p].tasks.size());
      for (int edges = index > 0 ? below(3) : 0; edges > 0; --edges)
        task.after.push_back(below(index));
      step.programs[p].tasks.push_back(task);
      step.costs[p].push_back(random_cost(random_, round_));
      step.members.back().emplace_back(positions[m], index);
    }
  }
  std::mt19937 random_;
  bool round_ = false;
};

TEST(SimulateBruteForce, RandomProgramsTakeEqualTimes) {
  RandomSteps steps(3);
  size_t num_tasks = 0, num_slowed = 0, num_of_several = 0;
  for (int trial = 0; trial < 4000; ++trial) {
    const RandomStep step = steps.next();
    BruteForce brute(step.programs, step.costs, step.members);
    const auto expected = brute.run();
    ASSERT_EQ(brute.num_unfinished(), 0u);
    const Simulation got = simulate(step.programs, step.costs);
    expect_equal_times(got.times, expected);
    ASSERT_FALSE(HasFatalFailure()) << "trial " << trial;
    double makespan = 0;
    for (size_t p = 0; p < expected.size(); ++p)
      for (size_t i = 0; i < expected[p].size(); ++i) {
        const TaskTime& time = expected[p][i];
        const TaskCost& cost = step.costs[p][i];
        const bool is_alone = step.programs[p].tasks[i].positions.empty();
        makespan = std::max(makespan, time.end);
        ++num_tasks;
        num_of_several += !is_alone;
        num_slowed +=
            is_alone && time.end - time.start > (cost.latency_seconds + cost.seconds) * 1.001;
      }
    ASSERT_NEAR(got.makespan, makespan, 1e-9 * makespan);
  }
  // The programs do what the test is about.
  EXPECT_GT(num_tasks, 50000u);
  EXPECT_GT(num_slowed, 10000u);
  EXPECT_GT(num_of_several, 10000u);
}

TEST(SimulateBruteForce, TheSameInputGivesTheSameBits) {
  RandomSteps steps(4);
  for (int trial = 0; trial < 100; ++trial) {
    const RandomStep step = steps.next();
    const Simulation a = simulate(step.programs, step.costs),
                     b = simulate(step.programs, step.costs);
    for (size_t p = 0; p < a.times.size(); ++p)
      for (size_t i = 0; i < a.times[p].size(); ++i)
        ASSERT_EQ(a.times[p][i].end, b.times[p][i].end);
  }
}

}  // namespace
}  // namespace strait
