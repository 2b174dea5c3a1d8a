// The account of a trace: by hand, against a count over small steps of time, and against the
// simulator's own.
#include <gtest/gtest.h>

#include "launch/view/trace_account.h"
#include "parallel/sim/simulate.h"
#include "parallel/sim/trace.h"
#include "tests/launch/view_sample.h"

namespace strait {
namespace {

Span span_of(int rank, Lane lane, double start_us, double end_us) {
  return {.rank = rank,
          .lane = lane,
          .name = "n",
          .kind = "mlp",
          .start_us = start_us,
          .end_us = end_us};
}

TEST(ViewAccount, ByHand) {
  // rank 1: computes [10, 30) and [40, 50); transfers [20, 45) and [44, 60); the step is [0, 70).
  const Trace trace{.title = "t",
                    .predicted = true,
                    .spans = {span_of(1, Lane::compute, 10, 30), span_of(1, Lane::compute, 40, 50),
                              span_of(1, Lane::far, 20, 45), span_of(1, Lane::pipe, 44, 60),
                              span_of(1, Lane::host, 62, 66), span_of(0, Lane::compute, 0, 70)}};
  const TraceAccount account = account_of(trace);
  EXPECT_EQ(account.makespan_us(), 70);
  ASSERT_EQ(account.ranks.size(), 2u);
  EXPECT_EQ(account.ranks[0].account.idle_seconds, 0);
  const RankAccount& one = account.ranks[1];
  EXPECT_DOUBLE_EQ(one.account.compute_seconds, 30e-6);
  EXPECT_DOUBLE_EQ(one.account.transfer_seconds, 40e-6);
  EXPECT_DOUBLE_EQ(one.account.hidden_seconds, 20e-6);   // [20, 30) and [40, 50)
  EXPECT_DOUBLE_EQ(one.account.exposed_seconds, 20e-6);  // [30, 40) and [50, 60)
  EXPECT_DOUBLE_EQ(one.account.idle_seconds, 20e-6);     // [0, 10) and [60, 70)
  ASSERT_EQ(one.exposed.size(), 2u);
  EXPECT_EQ(one.exposed[1].start_us, 50);
  EXPECT_EQ(one.exposed[1].end_us, 60);
  EXPECT_DOUBLE_EQ(account.hidden_share(), 0.5);
  EXPECT_DOUBLE_EQ(account.total.compute_seconds, 100e-6);
}

// Whole microseconds, each looked at by itself.
TEST(ViewAccount, EqualsACountOfMoments) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    Trace trace = random_trace(seed, 2, 12);
    double first = 1e9, last = 0;
    for (Span& span : trace.spans) {
      span.start_us = std::floor(span.start_us) + 1000;
      span.end_us = std::floor(span.end_us) + 1001;  // overlaps on a lane happen
      first = std::min(first, span.start_us);
      last = std::max(last, span.end_us);
    }
    const TraceAccount account = account_of(trace);
    EXPECT_EQ(account.start_us, first);
    EXPECT_EQ(account.end_us, last);
    for (const RankAccount& rank : account.ranks) {
      int computing = 0, hidden = 0, exposed = 0, bubble = 0;
      for (double t = first; t < last; ++t) {
        bool computes = false, transfers = false;
        for (const Span& span : trace.spans) {
          if (span.rank != rank.rank || t < span.start_us || t >= span.end_us) continue;
          computes |= span.lane == Lane::compute;
          transfers |= span.lane != Lane::compute && span.lane != Lane::host;
        }
        computing += computes;
        hidden += computes && transfers;
        exposed += !computes && transfers;
        bubble += !computes && !transfers;
      }
      EXPECT_NEAR(rank.account.compute_seconds, computing * 1e-6, 1e-12);
      EXPECT_NEAR(rank.account.hidden_seconds, hidden * 1e-6, 1e-12);
      EXPECT_NEAR(rank.account.exposed_seconds, exposed * 1e-6, 1e-12);
      EXPECT_NEAR(rank.account.idle_seconds, bubble * 1e-6, 1e-12);
      EXPECT_NEAR(rank.account.transfer_seconds, (hidden + exposed) * 1e-6, 1e-12);
    }
  }
}

TEST(ViewAccount, EqualsTheSimulatorsAccount) {
  const Trace random = random_trace(7, 3, 60);
  std::vector<Program> programs;
  Simulation simulation;
  std::vector<std::vector<TaskCost>> costs;
  double first = 1e9;
  for (const Span& span : random.spans) first = std::min(first, span.start_us);
  for (const int rank : {0, 5, 10}) {
    Program program{.tasks = {}, .num_microbatches = 0, .position = rank};
    std::vector<TaskTime> times;
    for (const Span& span : random.spans) {
      if (span.rank != rank) continue;
      program.tasks.push_back({.kind = Kind::mlp, .lane = span.lane});
      times.push_back({(span.start_us - first) * 1e-6, (span.end_us - first) * 1e-6});
      simulation.makespan = std::max(simulation.makespan, times.back().end);
    }
    costs.emplace_back(program.tasks.size());
    programs.push_back(program);
    simulation.times.push_back(times);
  }
  const TraceAccount ours = account_of(trace_of("t", programs, costs, simulation));
  ASSERT_EQ(ours.ranks.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const LaneAccount theirs = account(programs[i], simulation.times[i], simulation.makespan);
    EXPECT_GT(theirs.exposed_seconds, 0);
    EXPECT_GT(theirs.hidden_seconds, 0);
    EXPECT_NEAR(ours.ranks[i].account.compute_seconds, theirs.compute_seconds, 1e-12);
    EXPECT_NEAR(ours.ranks[i].account.transfer_seconds, theirs.transfer_seconds, 1e-12);
    EXPECT_NEAR(ours.ranks[i].account.hidden_seconds, theirs.hidden_seconds, 1e-12);
    EXPECT_NEAR(ours.ranks[i].account.exposed_seconds, theirs.exposed_seconds, 1e-12);
    EXPECT_NEAR(ours.ranks[i].account.idle_seconds, theirs.idle_seconds, 1e-12);
  }
}

TEST(ViewAccount, NoSpansNoTime) {
  const TraceAccount account = account_of(Trace{});
  EXPECT_TRUE(account.ranks.empty());
  EXPECT_EQ(account.makespan_us(), 0);
  EXPECT_EQ(account.hidden_share(), 0);
}

}  // namespace
}  // namespace strait
