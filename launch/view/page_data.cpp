#include "launch/view/page_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "core/errors.h"
#include "launch/view/json_text.h"
#include "launch/view/perfetto.h"
#include "launch/view/trace_account.h"

namespace strait {
namespace {

constexpr double kTickMicroseconds = 1e-3;  // nanoseconds are finer than any clock of a step
constexpr double kTickRelative = 1e-6;

class Numbers {
 public:
  void put(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  void put_signed(int64_t value) {
    put(value < 0 ? (static_cast<uint64_t>(-(value + 1)) << 1) | 1
                  : static_cast<uint64_t>(value) << 1);
  }

  std::string base64() const {
    static constexpr char kDigits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes_.size() + 2) / 3 * 4);
    for (size_t at = 0; at < bytes_.size(); at += 3) {
      const size_t left = std::min<size_t>(3, bytes_.size() - at);
      uint32_t group = 0;
      for (size_t i = 0; i < 3; ++i)
        group = group << 8 | (i < left ? static_cast<uint8_t>(bytes_[at + i]) : 0U);
      for (size_t i = 0; i < 4; ++i) text += i <= left ? kDigits[group >> (18 - 6 * i) & 63] : '=';
    }
    return text;
  }

 private:
  std::string bytes_;
};

// Texts in the order they were first seen.
class Table {
 public:
  uint64_t index_of(const std::string& text) {
    const auto [at, is_new] = indices_.try_emplace(text, indices_.size());
    if (is_new) texts_.push_back(text);
    return at->second;
  }
  std::string json() const {
    std::string list;
    for (const std::string& text : texts_) list += (list.empty() ? "" : ",") + json_quoted(text);
    return "[" + list + "]";
  }

 private:
  std::unordered_map<std::string, uint64_t> indices_;
  std::vector<std::string> texts_;
};

// Most names differ only in micro-batch and layer, which the span has anyway.
std::string name_template(const Span& span) {
  if (span.name.find('{') != std::string::npos) return "=" + span.name;
  std::string result = "~";
  size_t at = 0;
  while (at <= span.name.size()) {
    const size_t end = std::min(span.name.find(' ', at), span.name.size());
    const std::string word = span.name.substr(at, end - at);
    if (at > 0) result += ' ';
    if (span.microbatch >= 0 && word == fmt::format("m{}", span.microbatch)) {
      result += "m{m}";
    } else if (span.layer >= 0 && word == fmt::format("l{}", span.layer)) {
      result += "l{l}";
    } else {
      result += word;
    }
    at = end + 1;
  }
  return result;
}

// Times as whole ticks after the start of the step. Both ends are rounded, so that what touches
// still does.
struct Clock {
  double start_us = 0, tick_us = 1;
  uint64_t ticks(double time_us) const {
    return static_cast<uint64_t>(std::llround((time_us - start_us) / tick_us));
  }
};

// By rank, lane and start; at one moment the forward first, and then the order of the trace.
std::vector<const Span*> in_page_order(const Trace& trace) {
  std::vector<const Span*> order;
  for (const Span& span : trace.spans) order.push_back(&span);
  std::stable_sort(order.begin(), order.end(), [](const Span* a, const Span* b) {
    return std::tuple(a->rank, a->lane, a->start_us, a->pass) <
           std::tuple(b->rank, b->lane, b->start_us, b->pass);
  });
  return order;
}

struct Columns {
  Numbers numbers;
  Table names, kinds;
  int num_groups = 0;
};

void put_span(const Span& span, const Clock& clock, uint64_t previous_start, Columns& to) {
  const uint64_t start = clock.ticks(span.start_us), end = clock.ticks(span.end_us);
  STRAIT_CHECK(end >= start && span.rank >= 0 && span.chunk >= 0,
               fmt::format("span {} of rank {} lasts from {} to {}", span.name, span.rank,
                           span.start_us, span.end_us));
  to.numbers.put(start - previous_start);
  to.numbers.put(end - start);
  to.numbers.put(to.names.index_of(name_template(span)));
  to.numbers.put(to.kinds.index_of(span.kind));
  to.numbers.put(static_cast<uint64_t>(span.pass));
  to.numbers.put(static_cast<uint64_t>(span.chunk));
  for (const int64_t value :
       {int64_t{span.microbatch}, int64_t{span.layer}, int64_t{span.pair}, span.bytes})
    to.numbers.put_signed(value);
}

void put_spans(const Trace& trace, const Clock& clock, Columns& to) {
  const std::vector<const Span*> order = in_page_order(trace);
  for (size_t first = 0, end = 0; first < order.size(); first = end) {
    const Span& head = *order[first];
    while (end < order.size() && order[end]->rank == head.rank && order[end]->lane == head.lane)
      ++end;
    ++to.num_groups;
    to.numbers.put(static_cast<uint64_t>(head.rank));
    to.numbers.put(static_cast<uint64_t>(head.lane));
    to.numbers.put(end - first);
    uint64_t previous = 0;
    for (size_t at = first; at < end; ++at) {
      put_span(*order[at], clock, previous, to);
      previous = clock.ticks(order[at]->start_us);
    }
  }
}

void put_stretches(const std::vector<Stretch>& stretches, const Clock& clock, Numbers& to) {
  to.put(stretches.size());
  uint64_t previous = 0;
  for (const Stretch& stretch : stretches) {
    const uint64_t start = clock.ticks(stretch.start_us), end = clock.ticks(stretch.end_us);
    to.put(start - previous);
    to.put(end - start);
    previous = end;
  }
}

std::string figures(const LaneAccount& account) {
  return fmt::format(
      R"("compute":{},"transfer":{},"hidden":{},"exposed":{},"idle":{})",
      json_number(account.compute_seconds * 1e6), json_number(account.transfer_seconds * 1e6),
      json_number(account.hidden_seconds * 1e6), json_number(account.exposed_seconds * 1e6),
      json_number(account.idle_seconds * 1e6));
}

std::string lane_names() {
  std::string list;
  for (int lane = 0; lane < kNumLanes; ++lane)
    list += fmt::format("{}\"{}\"", lane > 0 ? "," : "", name_of(static_cast<Lane>(lane)));
  return list;
}

}  // namespace

std::string page_data(const Trace& trace) {
  const TraceAccount account = account_of(trace);
  const Clock clock{account.start_us, trace.relative ? kTickRelative : kTickMicroseconds};
  Columns columns;
  put_spans(trace, clock, columns);
  std::string accounts;
  for (const RankAccount& rank : account.ranks) {
    for (const auto* stretches : {&rank.hidden, &rank.exposed, &rank.bubbles})
      put_stretches(*stretches, clock, columns.numbers);
    accounts += fmt::format(R"({}{{"rank":{},{}}})", accounts.empty() ? "" : ",", rank.rank,
                            figures(rank.account));
  }
  return fmt::format(
      R"({{"title":{},"predicted":{},"relative":{},"tick":{},"end":{},"num_spans":{},"num_groups":{},"lanes":[{}],)"
      R"("passes":["forward","input_gradient","weight_gradient"],"kinds":{},"names":{},"accounts":[{}],"total":{{{}}},)"
      R"("data":"{}"}})",
      json_quoted(trace.title), trace.predicted, trace.relative, json_number(clock.tick_us),
      json_number(account.makespan_us()), trace.spans.size(), columns.num_groups, lane_names(),
      columns.kinds.json(), columns.names.json(), accounts, figures(account.total),
      columns.numbers.base64());
}

}  // namespace strait
