#include "launch/view/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "core/errors.h"
#include "launch/view/trace_account.h"

namespace strait {
namespace {

// A span of a trace and which one of its rank, lane and name it is.
struct Numbered {
  const Span* span = nullptr;
  int64_t occurrence = 0;
};

struct TaskKey {
  int rank = 0;
  Lane lane = Lane::compute;
  std::string_view name;
  friend bool operator==(const TaskKey&, const TaskKey&) = default;
};

struct TaskKeyHash {
  size_t operator()(const TaskKey& key) const {
    return std::hash<std::string_view>()(key.name) * 31 +
           static_cast<size_t>(key.rank * kNumLanes + static_cast<int>(key.lane));
  }
};

template <class Value>
using ByTask = std::unordered_map<TaskKey, Value, TaskKeyHash>;

TaskKey key_of(const Span& span) { return {span.rank, span.lane, span.name}; }

std::vector<const Span*> by_rank_and_start(const Trace& trace) {
  std::vector<const Span*> order;
  for (const Span& span : trace.spans) order.push_back(&span);
  std::stable_sort(order.begin(), order.end(), [](const Span* a, const Span* b) {
    return std::tuple(a->rank, a->start_us) < std::tuple(b->rank, b->start_us);
  });
  return order;
}

std::vector<Numbered> numbered(const Trace& trace) {
  ByTask<int64_t> seen;
  std::vector<Numbered> result;
  for (const Span* span : by_rank_and_start(trace)) result.push_back({span, seen[key_of(*span)]++});
  return result;
}

ByTask<std::vector<const Span*>> by_task(const std::vector<Numbered>& spans) {
  ByTask<std::vector<const Span*>> result;
  for (const Numbered& one : spans) result[key_of(*one.span)].push_back(one.span);
  return result;
}

double length_us(const Span& span) { return span.end_us - span.start_us; }

TraceFigures figures_of(const Trace& trace) {
  const TraceAccount account = account_of(trace);
  return {.title = trace.title,
          .predicted = trace.predicted,
          .num_spans = static_cast<int64_t>(trace.spans.size()),
          .makespan_us = account.makespan_us(),
          .total = account.total};
}

template <class Difference>
void sort_by_size(std::vector<Difference>& differences) {
  std::stable_sort(differences.begin(), differences.end(),
                   [](const Difference& x, const Difference& y) {
                     return std::fabs(x.difference_us()) > std::fabs(y.difference_us());
                   });
}

std::vector<KindDifference> kinds_of(const Trace& a, const Trace& b) {
  std::map<std::tuple<std::string, Pass, Lane>, KindDifference> kinds;
  const auto at = [&](const Span& span) -> KindDifference& {
    KindDifference& kind = kinds[{span.kind, span.pass, span.lane}];
    kind.kind = span.kind;
    kind.pass = span.pass;
    kind.lane = span.lane;
    return kind;
  };
  for (const Span& span : a.spans) {
    KindDifference& kind = at(span);
    kind.count_a += 1;
    kind.a_us += length_us(span);
  }
  for (const Span& span : b.spans) {
    KindDifference& kind = at(span);
    kind.count_b += 1;
    kind.b_us += length_us(span);
  }
  std::vector<KindDifference> result;
  for (auto& [key, kind] : kinds) result.push_back(std::move(kind));
  sort_by_size(result);
  return result;
}

// Those of `spans` whose occurrence the other trace does not reach.
std::vector<UnmatchedSpan> unmatched(const std::vector<Numbered>& spans,
                                     const ByTask<std::vector<const Span*>>& other) {
  std::vector<UnmatchedSpan> result;
  for (const Numbered& one : spans) {
    const auto at = other.find(key_of(*one.span));
    if (at == other.end() || one.occurrence >= static_cast<int64_t>(at->second.size()))
      result.push_back(
          {one.span->rank, one.span->lane, one.span->name, one.occurrence, length_us(*one.span)});
  }
  return result;
}

}  // namespace

Comparison compare(const Trace& a, const Trace& b) {
  if (a.relative != b.relative)
    throw RecipeError(fmt::format(
        "[draw] '{}' counts microseconds and '{}' a schedule's units: they cannot be compared",
        a.relative ? b.title : a.title, a.relative ? a.title : b.title));
  const std::vector<Numbered> spans_a = numbered(a), spans_b = numbered(b);
  const auto tasks_a = by_task(spans_a), tasks_b = by_task(spans_b);
  Comparison result{.a = figures_of(a),
                    .b = figures_of(b),
                    .relative = a.relative,
                    .num_matched = 0,
                    .by_kind = kinds_of(a, b),
                    .by_task = {},
                    .missing = unmatched(spans_a, tasks_b),
                    .extra = unmatched(spans_b, tasks_a)};
  for (const Numbered& one : spans_a) {
    const auto at = tasks_b.find(key_of(*one.span));
    if (one.occurrence > 0 || at == tasks_b.end()) continue;  // each task once, in order
    const std::vector<const Span*>& in_a = tasks_a.at(key_of(*one.span));
    TaskDifference task{.rank = one.span->rank, .lane = one.span->lane, .name = one.span->name};
    task.count = static_cast<int64_t>(std::min(in_a.size(), at->second.size()));
    for (size_t i = 0; i < static_cast<size_t>(task.count); ++i) {
      task.a_us += length_us(*in_a[i]);
      task.b_us += length_us(*at->second[i]);
    }
    result.num_matched += task.count;
    result.by_task.push_back(std::move(task));
  }
  sort_by_size(result.by_task);
  return result;
}

}  // namespace strait
