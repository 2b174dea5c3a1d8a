// launch/view/compare_text.cpp: a Comparison as tables and as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "launch/view/compare.h"
#include "launch/view/json_text.h"
#include "launch/view/perfetto.h"
#include "launch/view/time_text.h"

namespace strait {
namespace {

template <class T>
std::vector<T> first_of(const std::vector<T>& list, int top) {
  return {list.begin(),
          list.begin() + std::min<std::ptrdiff_t>(std::max(0, top), std::ssize(list))};
}

std::string change(double a, double b) {
  return a > 0 ? fmt::format("{:+.1f}%", 100 * (b - a) / a) : "-";
}

double hidden_share(const LaneAccount& total) {
  return total.transfer_seconds > 0 ? total.hidden_seconds / total.transfer_seconds : 0;
}

const char* source_of(const TraceFigures& figures) {
  return figures.predicted ? "prediction" : "measured";
}

std::string signed_time(double us, bool relative) {
  return (us > 0 ? "+" : "") + time_text(us, relative);
}

std::string figures_table(const Comparison& c) {
  std::string text =
      fmt::format("a  {} ({}), {} spans\nb  {} ({}), {} spans\n\n", c.a.title, source_of(c.a),
                  c.a.num_spans, c.b.title, source_of(c.b), c.b.num_spans);
  text += fmt::format("{:<28}{:>14}{:>14}{:>14}{:>9}\n", "", "a", "b", "difference", "");
  const auto row = [&](const char* name, double a_us, double b_us) {
    text += fmt::format("{:<28}{:>14}{:>14}{:>14}{:>9}\n", name, time_text(a_us, c.relative),
                        time_text(b_us, c.relative), signed_time(b_us - a_us, c.relative),
                        change(a_us, b_us));
  };
  const LaneAccount &a = c.a.total, &b = c.b.total;
  row("step", c.a.makespan_us, c.b.makespan_us);
  row("computing, all ranks", a.compute_seconds * 1e6, b.compute_seconds * 1e6);
  row("exposed transfers", a.exposed_seconds * 1e6, b.exposed_seconds * 1e6);
  row("bubbles", a.idle_seconds * 1e6, b.idle_seconds * 1e6);
  const double share_a = 100 * hidden_share(a), share_b = 100 * hidden_share(b);
  if (a.transfer_seconds > 0 || b.transfer_seconds > 0)
    text += fmt::format("{:<28}{:>13.1f}%{:>13.1f}%{:>+13.1f}\n", "transfers hidden", share_a,
                        share_b, share_b - share_a);
  return text;
}

std::string kinds_table(const Comparison& c, int top) {
  std::string text =
      fmt::format("\n{:<42}{:>9}{:>9}{:>14}{:>14}{:>14}{:>9}\n", "by kind, pass, lane", "spans a",
                  "spans b", "time a", "time b", "difference", "");
  for (const KindDifference& kind : first_of(c.by_kind, top))
    text += fmt::format(
        "{:<42}{:>9}{:>9}{:>14}{:>14}{:>14}{:>9}\n",
        fmt::format("{} {} {}", kind.kind, name_of(kind.pass), name_of(kind.lane)), kind.count_a,
        kind.count_b, time_text(kind.a_us, c.relative), time_text(kind.b_us, c.relative),
        signed_time(kind.difference_us(), c.relative), change(kind.a_us, kind.b_us));
  if (std::ssize(c.by_kind) > top)
    text += fmt::format("and {} more\n", std::ssize(c.by_kind) - top);
  return text;
}

std::string tasks_table(const Comparison& c, int top) {
  std::string text = fmt::format("\n{:<34}{:<8}{:>9}{:>9}{:>14}{:>14}{:>14}{:>9}\n", "by task",
                                 "lane", "rank", "matched", "time a", "time b", "difference", "");
  for (const TaskDifference& task : first_of(c.by_task, top))
    text += fmt::format(
        "{:<34}{:<8}{:>9}{:>9}{:>14}{:>14}{:>14}{:>9}\n", task.name, name_of(task.lane), task.rank,
        task.count, time_text(task.a_us, c.relative), time_text(task.b_us, c.relative),
        signed_time(task.difference_us(), c.relative), change(task.a_us, task.b_us));
  if (std::ssize(c.by_task) > top)
    text += fmt::format("and {} more\n", std::ssize(c.by_task) - top);
  return text;
}

std::string unmatched_table(const char* heading, const std::vector<UnmatchedSpan>& spans,
                            bool relative, int top) {
  if (spans.empty()) return "";
  double all_us = 0;
  for (const UnmatchedSpan& span : spans) all_us += span.us;
  std::string text =
      fmt::format("\n{}: {} spans, {}\n", heading, spans.size(), time_text(all_us, relative));
  for (const UnmatchedSpan& span : first_of(spans, top))
    text += fmt::format("  rank {:<5} {:<8} {}{}  {}\n", span.rank, name_of(span.lane), span.name,
                        span.occurrence > 0 ? fmt::format(" (number {})", span.occurrence + 1) : "",
                        time_text(span.us, relative));
  if (std::ssize(spans) > top) text += fmt::format("  and {} more\n", std::ssize(spans) - top);
  return text;
}

std::string json_of(const TraceFigures& figures) {
  const LaneAccount& total = figures.total;
  return fmt::format(
      R"({{"title":{},"source":"{}","spans":{},"makespan_us":{},"compute_us":{},"transfer_us":{},"hidden_us":{},)"
      R"("exposed_us":{},"bubble_us":{},"hidden_share":{}}})",
      json_quoted(figures.title), source_of(figures), figures.num_spans,
      json_number(figures.makespan_us), json_number(total.compute_seconds * 1e6),
      json_number(total.transfer_seconds * 1e6), json_number(total.hidden_seconds * 1e6),
      json_number(total.exposed_seconds * 1e6), json_number(total.idle_seconds * 1e6),
      total.transfer_seconds > 0 ? json_number(hidden_share(total)) : "null");
}

template <class T, class ToJson>
std::string json_list(const std::vector<T>& list, int top, ToJson to_json) {
  std::string text;
  for (const T& one : first_of(list, top)) text += (text.empty() ? "" : ",") + to_json(one);
  return "[" + text + "]";
}

std::string json_of(const UnmatchedSpan& span) {
  return fmt::format(R"({{"rank":{},"lane":"{}","name":{},"occurrence":{},"us":{}}})", span.rank,
                     name_of(span.lane), json_quoted(span.name), span.occurrence,
                     json_number(span.us));
}

}  // namespace

std::string to_table(const Comparison& c, int top) {
  return figures_table(c) + kinds_table(c, top) + tasks_table(c, top) +
         unmatched_table("in a alone", c.missing, c.relative, top) +
         unmatched_table("in b alone", c.extra, c.relative, top) +
         (c.missing.empty() && c.extra.empty() ? "\nevery span has its counterpart\n" : "");
}

std::string to_json(const Comparison& c, int top) {
  const std::string kinds = json_list(c.by_kind, top, [](const KindDifference& kind) {
    return fmt::format(
        R"({{"kind":{},"pass":"{}","lane":"{}","spans_a":{},"spans_b":{},"a_us":{},"b_us":{},"difference_us":{}}})",
        json_quoted(kind.kind), name_of(kind.pass), name_of(kind.lane), kind.count_a, kind.count_b,
        json_number(kind.a_us), json_number(kind.b_us), json_number(kind.difference_us()));
  });
  const std::string tasks = json_list(c.by_task, top, [](const TaskDifference& task) {
    return fmt::format(
        R"({{"rank":{},"lane":"{}","name":{},"matched":{},"a_us":{},"b_us":{},"difference_us":{}}})",
        task.rank, name_of(task.lane), json_quoted(task.name), task.count, json_number(task.a_us),
        json_number(task.b_us), json_number(task.difference_us()));
  });
  const auto unmatched_json = [&](const std::vector<UnmatchedSpan>& spans) {
    return json_list(spans, top, [](const UnmatchedSpan& span) { return json_of(span); });
  };
  return fmt::format(
      R"({{"kind":"compare","time":"{}","a":{},"b":{},"matched":{},"missing":{},"extra":{},"by_kind":{},"by_task":{},)"
      R"("missing_spans":{},"extra_spans":{}}})",
      c.relative ? "relative" : "microseconds", json_of(c.a), json_of(c.b), c.num_matched,
      c.missing.size(), c.extra.size(), kinds, tasks, unmatched_json(c.missing),
      unmatched_json(c.extra));
}

}  // namespace strait
