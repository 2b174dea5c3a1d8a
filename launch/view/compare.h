// launch/view/compare.h: two traces of the same work, span by span: a prediction and a measurement,
// or the step before and after a change.
//
// Spans match by (rank, lane, name, occurrence): the third "commit" of rank 2 in one trace is the
// third of rank 2 in the other, by start. What matches nothing is listed, and counted in the sums
// by kind of its own trace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/sim/trace.h"

namespace strait {

struct TraceFigures {
  std::string title;
  bool predicted = true;
  int64_t num_spans = 0;
  double makespan_us = 0;
  LaneAccount total;  // over ranks
};

struct KindDifference {
  std::string kind;
  Pass pass = Pass::forward;
  Lane lane = Lane::compute;
  int64_t count_a = 0, count_b = 0;
  double a_us = 0, b_us = 0;
  double difference_us() const { return b_us - a_us; }
};

struct TaskDifference {
  int rank = 0;
  Lane lane = Lane::compute;
  std::string name;
  int64_t count = 0;  // occurrences in both
  double a_us = 0, b_us = 0;
  double difference_us() const { return b_us - a_us; }
};

struct UnmatchedSpan {
  int rank = 0;
  Lane lane = Lane::compute;
  std::string name;
  int64_t occurrence = 0;  // from 0
  double us = 0;
};

struct Comparison {
  TraceFigures a, b;
  bool relative = false;
  int64_t num_matched = 0;
  std::vector<KindDifference> by_kind;  // both by the size of the difference, largest first
  std::vector<TaskDifference> by_task;  // those with matched spans
  std::vector<UnmatchedSpan> missing;   // in a alone; both by rank and start
  std::vector<UnmatchedSpan> extra;     // in b alone
};

// Errors: RecipeError when one trace counts microseconds and the other a schedule's units.
Comparison compare(const Trace& a, const Trace& b);

// Tables for people, and one JSON object for programs. `top`: rows of a list that are shown; sums
// and counts are always of all.
std::string to_table(const Comparison& comparison, int top);
std::string to_json(const Comparison& comparison, int top);

}  // namespace strait
