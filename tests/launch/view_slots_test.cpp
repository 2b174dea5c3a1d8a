// A schedule's slots as a trace: what the picture of a pipeline shows.
#include <gtest/gtest.h>

#include <map>

#include "launch/view/slots_trace.h"
#include "launch/view/trace_account.h"
#include "parallel/pipeline/schedules.h"

namespace strait {
namespace {

// F=1, B=2, W=1, and a pair as long as its two slots one after the other.
std::vector<std::vector<double>> durations_of(const Schedule& schedule) {
  std::vector<std::vector<double>> result;
  for (const std::vector<Slot>& slots : schedule.slots) {
    std::vector<double>& of_position = result.emplace_back();
    for (const Slot& slot : slots)
      of_position.push_back(slot.paired ? 3 : slot.work == Work::backward ? 2 : 1);
  }
  return result;
}

Trace traced(const Schedule& schedule) {
  return trace_of_slots("t", schedule, run_slots(schedule, durations_of(schedule)).times);
}

TEST(ViewSlots, DualPipeTakesItsFormulasTime) {
  const Schedule schedule = schedule_dualpipe({.positions = 8, .microbatches = 20});
  const Trace trace = traced(schedule);
  EXPECT_TRUE(trace.predicted);
  EXPECT_TRUE(trace.relative);
  const TraceAccount account = account_of(trace);
  EXPECT_EQ(account.makespan_us(), 66);
  ASSERT_EQ(account.ranks.size(), 8u);
  for (const RankAccount& rank : account.ranks) {  // (R/2 - 1)(FB + B - 3W) = 3 * 2
    EXPECT_DOUBLE_EQ(rank.account.idle_seconds, 6e-6);
    EXPECT_EQ(rank.account.transfer_seconds, 0);
  }
}

TEST(ViewSlots, OneForwardOneBackward) {
  const TraceAccount account =
      account_of(traced(schedule_1f1b({.positions = 8, .microbatches = 20})));
  EXPECT_EQ(account.makespan_us(), 81);  // 20 (F + B) + (R - 1)(F + B)
  for (const RankAccount& rank : account.ranks) EXPECT_DOUBLE_EQ(rank.account.idle_seconds, 21e-6);
}

TEST(ViewSlots, EverySlotIsASpanAndPairsShareNumberAndTime) {
  const Schedule schedule = schedule_dualpipe({.positions = 4, .microbatches = 12});
  const Trace trace = traced(schedule);
  size_t num_slots = 0, num_pairs = 0;
  std::map<std::pair<int, int>, std::vector<const Span*>> pairs;
  for (const Span& span : trace.spans)
    if (span.pair >= 0) pairs[{span.rank, span.pair}].push_back(&span);
  for (const std::vector<Slot>& slots : schedule.slots) {
    num_slots += slots.size();
    for (const Slot& slot : slots) num_pairs += slot.paired;
  }
  EXPECT_EQ(trace.spans.size(), num_slots);
  EXPECT_GT(num_pairs, 0u);
  EXPECT_EQ(pairs.size(), num_pairs);
  for (const auto& [key, spans] : pairs) {
    ASSERT_EQ(spans.size(), 2u);
    EXPECT_EQ(spans[0]->kind, "forward");
    EXPECT_EQ(spans[0]->start_us, spans[1]->start_us);
    EXPECT_EQ(spans[0]->end_us, spans[1]->end_us);
    EXPECT_EQ(spans[0]->end_us - spans[0]->start_us, 3);
  }
}

TEST(ViewSlots, KindsAndPasses) {
  const Schedule schedule = schedule_zb1p({.positions = 2, .microbatches = 3});
  std::map<std::string, std::pair<int, Pass>> kinds;
  const Trace trace = traced(schedule);
  size_t index = 0;
  for (const Slot& slot : schedule.slots[0]) EXPECT_EQ(trace.spans[index++].name, to_string(slot));
  for (const Span& span : trace.spans) {
    ++kinds[span.kind].first;
    kinds[span.kind].second = span.pass;
    EXPECT_EQ(span.lane, Lane::compute);
    EXPECT_EQ(span.layer, -1);
  }
  EXPECT_EQ(kinds["forward"], std::pair(6, Pass::forward));
  EXPECT_EQ(kinds["weight_gradient"].second, Pass::weight_gradient);
  EXPECT_EQ(kinds["input_gradient"].first, kinds["weight_gradient"].first);
  EXPECT_EQ(kinds["backward"].first + kinds["input_gradient"].first, 6);
}

}  // namespace
}  // namespace strait
