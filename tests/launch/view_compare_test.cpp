// Two traces compared, where the differences are known.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "launch/view/compare.h"
#include "tests/launch/view_sample.h"

namespace strait {
namespace {

using Json = nlohmann::json;

Span span_of(int rank, const std::string& kind, int microbatch, double start_us, double end_us,
             Lane lane = Lane::compute) {
  return {.rank = rank,
          .lane = lane,
          .name = fmt::format("{}.F m{}", kind, microbatch),
          .kind = kind,
          .microbatch = microbatch,
          .start_us = start_us,
          .end_us = end_us};
}

Trace a_trace() {
  return {.title = "a",
          .predicted = true,
          .spans = {span_of(0, "attention", 0, 0, 10), span_of(0, "attention", 1, 10, 20),
                    span_of(0, "mlp", 0, 20, 50), span_of(1, "mlp", 0, 0, 30),
                    span_of(0, "dispatch", 0, 15, 25, Lane::far), span_of(1, "update", 0, 30, 31)}};
}

TEST(ViewCompare, ATraceAndItself) {
  const Trace trace = random_trace(1);
  const Comparison result = compare(trace, trace);
  EXPECT_EQ(result.num_matched, static_cast<int64_t>(trace.spans.size()));
  EXPECT_TRUE(result.missing.empty());
  EXPECT_TRUE(result.extra.empty());
  for (const KindDifference& kind : result.by_kind) EXPECT_EQ(kind.difference_us(), 0);
  for (const TaskDifference& task : result.by_task) EXPECT_EQ(task.difference_us(), 0);
}

TEST(ViewCompare, KnownDifferences) {
  Trace b = a_trace();
  b.title = "b";
  b.predicted = false;
  std::swap(b.spans[0], b.spans[4]);  // the order of the list does not matter
  for (Span& span : b.spans) {
    span.start_us += 1e6;  // nor does when a trace begins
    span.end_us += 1e6;
    if (span.kind == "mlp" && span.rank == 0) span.end_us += 7;
    if (span.kind == "attention" && span.microbatch == 1) span.end_us -= 2;
  }
  std::erase_if(b.spans, [](const Span& span) { return span.kind == "update"; });
  b.spans.push_back(span_of(1, "mlp", 0, 1e6 + 40, 1e6 + 44));  // a second "mlp.F m0" of rank 1
  const Comparison result = compare(a_trace(), b);
  EXPECT_EQ(result.a.makespan_us, 50);
  EXPECT_EQ(result.b.makespan_us, 57);
  EXPECT_TRUE(result.a.predicted);
  EXPECT_FALSE(result.b.predicted);
  EXPECT_EQ(result.num_matched, 5);
  ASSERT_EQ(result.by_task.size(), 5u);
  EXPECT_EQ(result.by_task[0].name, "mlp.F m0");
  EXPECT_EQ(result.by_task[0].rank, 0);
  EXPECT_EQ(result.by_task[0].a_us, 30);
  EXPECT_NEAR(result.by_task[0].b_us, 37, 1e-9);
  EXPECT_EQ(result.by_task[1].name, "attention.F m1");
  EXPECT_NEAR(result.by_task[1].difference_us(), -2, 1e-9);
  EXPECT_NEAR(result.by_task[2].difference_us(), 0, 1e-9);
  ASSERT_EQ(result.by_kind.size(), 4u);
  EXPECT_EQ(result.by_kind[0].kind, "mlp");
  EXPECT_EQ(result.by_kind[0].count_a, 2);
  EXPECT_EQ(result.by_kind[0].count_b, 3);
  EXPECT_NEAR(result.by_kind[0].difference_us(), 11, 1e-9);
  EXPECT_EQ(result.by_kind[1].kind, "attention");
  EXPECT_EQ(result.by_kind[2].kind, "update");
  EXPECT_EQ(result.by_kind[2].count_b, 0);
  ASSERT_EQ(result.missing.size(), 1u);
  EXPECT_EQ(result.missing[0].name, "update.F m0");
  ASSERT_EQ(result.extra.size(), 1u);
  EXPECT_EQ(result.extra[0].rank, 1);
  EXPECT_EQ(result.extra[0].occurrence, 1);
  EXPECT_NEAR(result.extra[0].us, 4, 1e-9);
}

TEST(ViewCompare, OccurrencesMatchByStartAndLanesApart) {
  Trace a{.title = "a", .predicted = true, .spans = {}}, b = a;
  for (int n = 0; n < 3; ++n)
    a.spans.push_back(span_of(0, "dispatch", 4, 10 * n, 10 * n + 1 + n, Lane::far));
  for (int n = 2; n >= 0; --n)
    b.spans.push_back(span_of(0, "dispatch", 4, 100 * n, 100 * n + 1 + n, Lane::far));
  b.spans.push_back(span_of(0, "dispatch", 4, 0, 50, Lane::near));
  const Comparison result = compare(a, b);
  ASSERT_EQ(result.by_task.size(), 1u);
  EXPECT_EQ(result.by_task[0].count, 3);
  EXPECT_EQ(result.by_task[0].difference_us(), 0);
  ASSERT_EQ(result.extra.size(), 1u);
  EXPECT_EQ(result.extra[0].lane, Lane::near);
}

// Sums by kind are those of the traces, whatever was matched; matched, missing and extra spans are
// all spans.
TEST(ViewCompare, NothingIsLost) {
  for (uint32_t seed = 0; seed < 5; ++seed) {
    const Trace a = random_trace(seed), b = random_trace(seed + 100);
    const Comparison result = compare(a, b);
    double a_us = 0, b_us = 0, kinds_a = 0, kinds_b = 0;
    for (const Span& span : a.spans) a_us += span.end_us - span.start_us;
    for (const Span& span : b.spans) b_us += span.end_us - span.start_us;
    for (const KindDifference& kind : result.by_kind) {
      kinds_a += kind.a_us;
      kinds_b += kind.b_us;
    }
    EXPECT_NEAR(kinds_a, a_us, 1e-6);
    EXPECT_NEAR(kinds_b, b_us, 1e-6);
    EXPECT_EQ(result.num_matched + std::ssize(result.missing), std::ssize(a.spans));
    EXPECT_EQ(result.num_matched + std::ssize(result.extra), std::ssize(b.spans));
    EXPECT_GT(result.extra.size(), 0u);
    for (size_t i = 1; i < result.by_task.size(); ++i)
      EXPECT_GE(std::fabs(result.by_task[i - 1].difference_us()),
                std::fabs(result.by_task[i].difference_us()));
  }
}

TEST(ViewCompare, TextAndJsonSayTheSame) {
  Trace b = a_trace();
  b.title = "b";
  b.spans[2].end_us = 65;
  b.spans.pop_back();
  const Comparison result = compare(a_trace(), b);
  const std::string table = to_table(result, 2);
  EXPECT_NE(table.find("a  a (prediction), 6 spans"), std::string::npos);
  EXPECT_NE(table.find("+15 us"), std::string::npos);
  EXPECT_NE(table.find("+50.0%"), std::string::npos);
  EXPECT_NE(table.find("in a alone: 1 spans, 1 us\n  rank 1     compute  update.F m0  1 us"),
            std::string::npos);
  EXPECT_NE(table.find("and 3 more"), std::string::npos);
  const Json json = Json::parse(to_json(result, 2));
  EXPECT_EQ(json.at("matched"), 5);
  EXPECT_EQ(json.at("missing"), 1);
  EXPECT_EQ(json.at("extra"), 0);
  EXPECT_EQ(json.at("by_task").size(), 2u);
  EXPECT_EQ(json.at("by_task").at(0).at("name"), "mlp.F m0");
  EXPECT_EQ(json.at("by_task").at(0).at("difference_us"), 15);
  EXPECT_EQ(json.at("by_kind").at(0).at("spans_a"), 2);
  EXPECT_EQ(json.at("missing_spans").at(0).at("name"), "update.F m0");
  EXPECT_EQ(json.at("a").at("makespan_us"), 50);
  EXPECT_EQ(json.at("b").at("source"), "prediction");
}

TEST(ViewCompare, UnitsAndMicrosecondsDoNotMix) {
  Trace b = a_trace();
  b.relative = true;
  EXPECT_THROW(compare(a_trace(), b), RecipeError);
}

}  // namespace
}  // namespace strait
