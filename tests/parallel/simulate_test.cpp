// The fluid simulator in closed form: cases whose times follow from the model's rules by hand.
#include "parallel/sim/simulate.h"

#include <gtest/gtest.h>

#include "core/errors.h"
#include "parallel/sim/trace.h"

namespace strait {
namespace {

constexpr double kTiny = 1e-12;

TaskCost cost(double seconds, Link link, double share, double latency = 0) {
  TaskCost cost{.latency_seconds = latency, .seconds = seconds};
  cost.share[static_cast<size_t>(link)] = share;
  return cost;
}

struct Case {
  std::vector<Program> programs;
  std::vector<std::vector<TaskCost>> costs;

  explicit Case(int num_positions)
      : programs(static_cast<size_t>(num_positions)), costs(programs.size()) {
    for (size_t p = 0; p < programs.size(); ++p) programs[p].position = static_cast<int>(p);
  }
  int add(int position, Task task, const TaskCost& task_cost) {
    const size_t p = static_cast<size_t>(position);
    programs[p].tasks.push_back(std::move(task));
    costs[p].push_back(task_cost);
    return static_cast<int>(programs[p].tasks.size()) - 1;
  }
  Simulation run() const { return simulate(programs, costs); }
};

Task on(Lane lane, std::vector<int> after = {}) {
  return {.kind = lane == Lane::compute ? Kind::experts : Kind::dispatch,
          .lane = lane,
          .after = std::move(after)};
}

TEST(Simulate, RunsALaneInOrderAndWaitsForEdges) {
  Case c(1);
  c.add(0, on(Lane::compute), cost(1, Link::cores, 1));
  c.add(0, on(Lane::far, {0}), cost(2, Link::card_up, 1));
  c.add(0, on(Lane::compute), cost(0.5, Link::cores, 1));
  c.add(0, on(Lane::compute, {1}), cost(1, Link::cores, 1));
  const Simulation s = c.run();
  EXPECT_DOUBLE_EQ(s.times[0][0].end, 1);
  EXPECT_DOUBLE_EQ(s.times[0][1].end, 3);
  EXPECT_DOUBLE_EQ(s.times[0][2].end, 1.5);
  EXPECT_DOUBLE_EQ(s.times[0][3].start, 3);
  EXPECT_DOUBLE_EQ(s.makespan, 4);
}

TEST(Simulate, TwoTransfersShareALink) {
  Case c(1);
  c.add(0, on(Lane::near), cost(1, Link::card_up, 1));
  c.add(0, on(Lane::far), cost(2, Link::card_up, 1));
  const Simulation s = c.run();
  EXPECT_NEAR(s.times[0][0].end, 2, kTiny);  // both at half speed
  EXPECT_NEAR(s.times[0][1].end, 3, kTiny);  // 1 s is left for it alone
}

TEST(Simulate, RanksOnOneMachineShareItsCores) {
  Case c(2);
  c.add(0, on(Lane::compute), cost(1, Link::cores, 1));
  c.add(1, on(Lane::compute), cost(2, Link::cores, 1));
  const auto ends = [&](const SharedCores& shared) {
    const Simulation s = simulate(c.programs, c.costs, shared);
    return std::pair(s.times[0][0].end, s.times[1][0].end);
  };
  EXPECT_EQ(ends({}), std::pair(1.0, 2.0));
  EXPECT_EQ(ends({.cores = 2}), std::pair(1.0, 2.0));
  EXPECT_EQ(ends({.cores = 1}), std::pair(2.0, 3.0));  // at half speed until the first is done
  // Four ranks of a position on two cores take twice as long even alone.
  EXPECT_EQ(ends({.cores = 2, .ranks_per_position = 4}), std::pair(4.0, 6.0));
  EXPECT_EQ(ends({.cores = 2, .of_rank = 0.5, .ranks_per_position = 4}), std::pair(2.0, 3.0));
}

TEST(Simulate, AWaitingRankLeavesTheMachineToOthers) {
  Case c(2);
  c.add(0, on(Lane::far), cost(1, Link::card_up, 1));
  c.add(0, on(Lane::compute, {0}), cost(1, Link::cores, 1));
  c.add(1, on(Lane::compute), cost(1.5, Link::cores, 1));
  const Simulation s = simulate(c.programs, c.costs, {.cores = 1});
  EXPECT_NEAR(s.times[1][0].end, 2, kTiny);  // alone for 1 s, then half of the core
  EXPECT_NEAR(s.times[0][1].end, 2.5, kTiny);
}

TEST(Simulate, SharesAreFairInSpeedAndTheRestIsUsed) {
  // card_up: 0.2 and 1.0 fill it at x = 1/1.2. The third needs only the fabric, of which the first
  // leaves enough.
  Case c(1);
  TaskCost first = cost(1, Link::card_up, 0.2);
  first.share[static_cast<size_t>(Link::fabric)] = 0.4;
  c.add(0, on(Lane::near), first);
  c.add(0, on(Lane::far), cost(1, Link::card_up, 1));
  c.add(0, on(Lane::pipe), cost(1, Link::fabric, 0.5));
  const Simulation s = c.run();
  EXPECT_NEAR(s.times[0][0].end, 1.2, kTiny);
  EXPECT_NEAR(s.times[0][1].end, 1.2, kTiny);
  EXPECT_NEAR(s.times[0][2].end, 1, kTiny);
}

TEST(Simulate, ComputeRunsOnTheCoresThatTransfersLeave) {
  Case c(1);
  c.add(0, on(Lane::compute), cost(1, Link::cores, 1));
  c.add(0, on(Lane::far), cost(0.5, Link::cores, 20.0 / 132));
  const Simulation s = c.run();
  EXPECT_NEAR(s.times[0][1].end, 0.5, kTiny);  // the transfer is not slowed
  EXPECT_NEAR(s.times[0][0].end, 0.5 + (1 - 0.5 * 112 / 132), kTiny);
}

TEST(Simulate, ComputeStandsStillWhereNothingIsLeft) {
  Case c(1);
  c.add(0, on(Lane::compute), cost(1, Link::cores, 0.25));
  c.add(0, on(Lane::near), cost(2, Link::cores, 1));
  c.add(0, on(Lane::far), cost(1, Link::cores, 1));
  EXPECT_NEAR(c.run().times[0][0].end, 4, kTiny);
}

TEST(Simulate, LatencyComesFirstAndTakesNoLink) {
  Case c(1);
  c.add(0, on(Lane::compute), cost(1, Link::cores, 1));
  c.add(0, on(Lane::far), cost(0.5, Link::cores, 0.5, 0.25));
  const Simulation s = c.run();
  EXPECT_NEAR(s.times[0][1].end, 0.75, kTiny);
  EXPECT_NEAR(s.times[0][0].end, 1.25, kTiny);  // half speed from 0.25 to 0.75
}

TEST(Simulate, TasksOfNoTimeEndWhenTheyStart) {
  Case c(1);
  c.add(0, on(Lane::compute), cost(1, Link::cores, 1));
  c.add(0, on(Lane::far, {0}), {});
  c.add(0, on(Lane::compute, {1}), cost(0, Link::cores, 1));
  c.add(0, on(Lane::compute), cost(1, Link::cores, 1));
  const Simulation s = c.run();
  EXPECT_DOUBLE_EQ(s.times[0][2].end, 1);
  EXPECT_DOUBLE_EQ(s.makespan, 2);
}

TEST(Simulate, AMessageStartsAtBothEndsAndLeavesWhatItCannotUse) {
  const Message message{.microbatch = 0, .layer = 4, .rows = 8};
  Case c(2);
  c.add(1, on(Lane::compute), cost(1, Link::cores, 1));
  c.add(0, {.kind = Kind::send, .lane = Lane::pipe, .send = message, .positions = {1}},
        cost(1, Link::card_up, 1));
  c.add(1,
        {.kind = Kind::receive,
         .lane = Lane::pipe,
         .receive = message,
         .positions = {0},
         .after = {0}},
        cost(1, Link::card_down, 1));
  // At the receiver three share the card's way down; the sender's other transfer takes the 2/3 that
  // are left.
  c.add(1, on(Lane::near, {0}), cost(5, Link::card_down, 1));
  c.add(1, on(Lane::far, {0}), cost(5, Link::card_down, 1));
  c.add(0, on(Lane::far), cost(3, Link::card_up, 1));
  const Simulation s = c.run();
  EXPECT_DOUBLE_EQ(s.times[0][0].start, 1);  // the send waits for its receive
  EXPECT_DOUBLE_EQ(s.times[1][1].start, 1);
  EXPECT_NEAR(s.times[0][0].end, 4, kTiny);
  EXPECT_NEAR(s.times[1][1].end, 4, kTiny);
  EXPECT_NEAR(s.times[0][1].end, 4, kTiny);  // 1 s alone, then 3 s at 2/3
}

TEST(Simulate, TheSlowestMemberSetsACollectivesTime) {
  const auto reduce = [](std::vector<int> others) {
    return Task{
        .kind = Kind::reduce_gradients, .lane = Lane::shard, .positions = std::move(others)};
  };
  Case c(3);
  c.add(0, reduce({2, 1}), cost(2, Link::card_up, 1, 0.5));
  c.add(1, reduce({0, 2}), cost(1, Link::card_up, 1));
  c.add(2, reduce({1, 0}), cost(2, Link::card_up, 1));
  // Position 1's card is half used: 1 s of bytes in 2 s. This one takes the other half once the
  // latency is over.
  c.add(1, on(Lane::far), cost(1.5, Link::card_up, 0.5));
  const Simulation s = c.run();
  for (size_t p = 0; p < 3; ++p) EXPECT_NEAR(s.times[p][0].end, 2.5, kTiny);
  EXPECT_NEAR(s.times[1][1].end, 1.5, kTiny);
}

TEST(Simulate, NamesTheHeadsOfTheLanesWhenStuck) {
  const auto collective = [](Kind kind, int other) {
    return Task{.kind = kind, .lane = Lane::shard, .positions = {other}};
  };
  Case c(2);
  c.add(0, collective(Kind::commit, 1), {});
  c.add(0, collective(Kind::gather_weights, 1), {});
  c.add(1, collective(Kind::gather_weights, 0), {});
  c.add(1, collective(Kind::commit, 0), {});
  try {
    c.run();
    FAIL() << "two collectives in opposite order ended";
  } catch (const InternalError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("position 0 shard: commit; position 1 shard: gather_weights"),
              std::string::npos)
        << text;
  }
}

TEST(Simulate, RefusesCostsOutOfRange) {
  Case c(1);
  c.add(0, on(Lane::far), cost(1, Link::fabric, 1.5));
  EXPECT_THROW(c.run(), InternalError);
  c.costs[0][0] = cost(-1, Link::fabric, 0.5);
  EXPECT_THROW(c.run(), InternalError);
  c.costs[0].clear();
  EXPECT_THROW(c.run(), InternalError);
}

TEST(Account, SplitsTheStepIntoComputeHiddenExposedAndIdle) {
  Program program;
  program.tasks = {on(Lane::compute), on(Lane::compute), on(Lane::near), on(Lane::far),
                   on(Lane::host)};
  const std::vector<TaskTime> times = {{0, 2}, {3, 5}, {1, 4}, {3.5, 6}, {6, 8}};
  const LaneAccount result = account(program, times, 8);
  EXPECT_DOUBLE_EQ(result.compute_seconds, 4);
  EXPECT_DOUBLE_EQ(result.transfer_seconds, 5);  // 1 to 6
  EXPECT_DOUBLE_EQ(result.hidden_seconds, 3);    // 1 to 2, 3 to 5
  EXPECT_DOUBLE_EQ(result.exposed_seconds, 2);
  EXPECT_DOUBLE_EQ(result.idle_seconds, 2);  // host work is neither
}

TEST(Trace, HasASpanPerTask) {
  Case c(1);
  c.add(0, {.kind = Kind::attention, .microbatch = 3, .layer = 2, .chunk = 1, .pair = 7},
        cost(0.5, Link::cores, 1));
  TaskCost exchange = cost(1, Link::card_up, 1);
  exchange.bytes_near = 10;
  exchange.bytes_far = 20;
  c.add(0, {.kind = Kind::dispatch, .lane = Lane::far, .microbatch = 3, .layer = 2, .after = {0}},
        exchange);
  const Trace trace = trace_of("a step", c.programs, c.costs, c.run());
  ASSERT_EQ(trace.spans.size(), 2u);
  EXPECT_TRUE(trace.predicted);
  EXPECT_EQ(trace.spans[0].name, "attention.F m3 l2");
  EXPECT_EQ(trace.spans[0].pair, 7);
  EXPECT_EQ(trace.spans[0].chunk, 1);
  const Span& span = trace.spans[1];
  EXPECT_EQ(span.kind, "dispatch");
  EXPECT_EQ(span.lane, Lane::far);
  EXPECT_EQ(span.bytes, 30);
  EXPECT_NEAR(span.start_us, 0.5e6, 1e-6);
  EXPECT_NEAR(span.end_us, 1.5e6, 1e-6);
}

}  // namespace
}  // namespace strait
