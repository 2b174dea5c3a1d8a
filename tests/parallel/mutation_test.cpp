// tests/parallel/mutation_test.cpp: valid programs of every schedule, changed in one place: each
// change is caught by the validator or harmless, as judged by brute force.
//
// By default a sample. All changes of 4 positions x 8 micro-batches, and 20,000 of 8 x 20 per
// schedule (15 minutes of one core):
//   STRAIT_ALL_MUTATIONS=1 build/ci/tests/parallel/mutation_test
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "core/scramble.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/program/validate.h"
#include "tests/parallel/brute_order.h"
#include "tests/parallel/mutations.h"
#include "tests/parallel/step_shapes.h"

namespace strait {
namespace {

bool all_mutations() { return std::getenv("STRAIT_ALL_MUTATIONS") != nullptr; }

struct Case {
  const char* schedule;
  int positions, microbatches, waves;
  size_t sample, full_sample;  // changes to try; 0: all
};

std::string name_of_case(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return fmt::format("{}_{}x{}_waves{}", c.schedule, c.positions, c.microbatches, c.waves);
}

// As many of each mutation as of the others, as long as there are any; the same ones in every run.
std::vector<Change> sample(const std::vector<Change>& changes, size_t count) {
  if (count == 0 || count >= changes.size()) return changes;
  std::array<std::vector<Change>, kNumMutations> by_mutation;
  for (const Change& change : changes)
    by_mutation[static_cast<size_t>(change.mutation)].push_back(change);
  uint64_t state = 0;
  for (std::vector<Change>& some : by_mutation)
    for (size_t i = some.size(); i > 1; --i) std::swap(some[i - 1], some[splitmix(++state) % i]);
  std::vector<Change> result;
  for (size_t round = 0; result.size() < count; ++round)
    for (const std::vector<Change>& some : by_mutation)
      if (round < some.size() && result.size() < count) result.push_back(some[round]);
  return result;
}

struct Counts {
  int tried = 0, caught = 0, harmless = 0, missed = 0;
  int caught_though_harmless = 0;
};

class MutationTest : public testing::TestWithParam<Case> {};

TEST_P(MutationTest, EachIsCaughtOrHarmless) {
  const Case& c = GetParam();
  const Schedule schedule =
      make_schedule(c.schedule, {.positions = c.positions, .microbatches = c.microbatches});
  const StepShape shape = shape_for(schedule, {.layers_per_stage = 2, .waves = c.waves});
  std::vector<Program> programs = lower_step(shape, schedule, true);
  ASSERT_TRUE(validate(shape, schedule, programs, true).empty());
  const BruteOrder brute(shape, programs);

  std::array<Counts, kNumMutations> table;
  const std::vector<Change> changes = all_changes(shape, programs);
  for (const Change& change : sample(changes, all_mutations() ? c.full_sample : c.sample)) {
    const auto position = static_cast<size_t>(change.position);
    const Program original = std::exchange(programs[position], changed(shape, programs, change));
    const bool caught = !validate(shape, schedule, programs, true).empty();
    const std::string harm = brute.harm(programs);
    programs[position] = original;
    Counts& counts = table[static_cast<size_t>(change.mutation)];
    ++counts.tried;
    counts.caught += caught;
    counts.harmless += harm.empty();
    counts.caught_though_harmless += caught && harm.empty();
    if (caught || harm.empty()) continue;
    ++counts.missed;
    if (counts.missed <= 3)
      ADD_FAILURE() << "missed: " << to_string(change, programs) << " " << harm;
  }

  size_t num_tasks = 0;
  for (const Program& program : programs) num_tasks += program.tasks.size();
  fmt::print(
      "{}, {} positions x {} micro-batches, {} waves: {} tasks, {} conflicts, {} changes in all\n",
      c.schedule, c.positions, c.microbatches, c.waves, num_tasks, brute.num_conflicts(),
      changes.size());
  fmt::print("  {:20s} {:>7s} {:>7s} {:>9s} {:>7s} {:>24s}\n", "change", "tried", "caught",
             "harmless", "missed", "caught though harmless");
  for (int mutation = 0; mutation < kNumMutations; ++mutation) {
    const Counts& n = table[static_cast<size_t>(mutation)];
    fmt::print("  {:20s} {:7d} {:7d} {:9d} {:7d} {:24d}\n",
               name_of(static_cast<Mutation>(mutation)), n.tried, n.caught, n.harmless, n.missed,
               n.caught_though_harmless);
    EXPECT_GT(n.caught, 0) << name_of(static_cast<Mutation>(mutation));
    EXPECT_EQ(n.missed, 0);
  }
}

// From one valid program to the next by harmless changes: the validator and brute force agree on
// every program on the way, and on every one a step aside.
TEST_P(MutationTest, RandomWalk) {
  const Case& c = GetParam();
  const int positions = c.positions / 2;
  const Schedule schedule =
      make_schedule(c.schedule, {.positions = positions, .microbatches = 2 * positions});
  const StepShape shape = shape_for(schedule, {.layers_per_stage = 2, .waves = c.waves});
  std::vector<Program> programs = lower_step(shape, schedule, true);
  const BruteOrder brute(shape, programs);
  uint64_t state = 1;
  const auto below = [&](size_t bound) { return static_cast<size_t>(splitmix(++state) % bound); };
  int harmless = 0, harmful = 0;
  const int steps = all_mutations() ? 2000 : 100;
  for (int step = 0; step < steps; ++step) {
    const std::vector<Program> before = programs;
    Program& program = programs[below(programs.size())];
    if (step % 2 == 0) {
      // One edge more: it may make others needless, or stop everything.
      const size_t later = 1 + below(program.tasks.size() - 1);
      program.tasks[later].after.push_back(static_cast<int>(below(later)));
    } else {
      std::vector<Change> changes = all_changes(shape, programs);
      std::erase_if(changes, [&](const Change& change) {
        const bool of_order = change.mutation == Mutation::swap_neighbours ||
                              change.mutation == Mutation::drop_edge ||
                              change.mutation == Mutation::reorder_collectives;
        return !of_order || change.position != program.position;
      });
      program = changed(shape, programs, changes[below(changes.size())]);
    }
    const std::vector<Problem> problems = validate(shape, schedule, programs, true);
    const std::string harm = brute.harm(programs);
    ASSERT_EQ(problems.empty(), harm.empty())
        << "step " << step << ": " << harm << (problems.empty() ? "" : problems[0].text);
    ++(harm.empty() ? harmless : harmful);
    if (!harm.empty()) programs = before;
  }
  EXPECT_GT(harmless, steps / 10);
  EXPECT_GT(harmful, steps / 10);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* schedule : {"1f1b", "interleaved", "zb1p", "zbv", "dualpipe", "dualpipev"}) {
    all.push_back({schedule, 4, 8, 1, 700, 0});
    const bool in_rounds =
        std::string_view(schedule) == "interleaved";  // a multiple of its positions
    all.push_back({schedule, 8, in_rounds ? 24 : 20, 1, 70, 20'000});
  }
  all.push_back({"dualpipe", 4, 8, 2, 700, 0});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Schedules, MutationTest, testing::ValuesIn(cases()), name_of_case);

}  // namespace
}  // namespace strait
