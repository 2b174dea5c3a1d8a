#include <fmt/format.h>

#include <array>
#include <map>

#include "launch/view/json_text.h"
#include "launch/view/perfetto.h"

namespace strait {
namespace {

// Viewers keep thread 0 for the idle thread, so lanes count from 1.
int thread_of(int lane) { return lane + 1; }

void write_head(const Trace& trace, std::ostream& out) {
  out << fmt::format(
      R"({{"displayTimeUnit":"ms","otherData":{{"format":"strait trace","version":1,"title":{},"source":"{}","time":"{}"}},)"
      "\n\"traceEvents\":[",
      json_quoted(trace.title), trace.predicted ? "prediction" : "measured",
      trace.relative ? "relative" : "microseconds");
}

// Names and order of processes and threads. Returns what comes before the next event.
const char* write_names(const Trace& trace, std::ostream& out) {
  std::map<int, std::array<bool, kNumLanes>> lanes;
  for (const Span& span : trace.spans) lanes[span.rank][static_cast<size_t>(span.lane)] = true;
  const char* separator = "\n";
  const auto put = [&](int rank, int thread, const char* what, const std::string& args) {
    out << fmt::format(R"({}{{"ph":"M","pid":{},"tid":{},"name":"{}","args":{{{}}}}})", separator,
                       rank, thread, what, args);
    separator = ",\n";
  };
  for (const auto& [rank, used] : lanes) {
    put(rank, 0, "process_name",
        fmt::format(R"("name":"{} {}{}")", trace.predicted && !trace.relative ? "position" : "rank",
                    rank, trace.predicted ? " (prediction)" : ""));
    put(rank, 0, "process_sort_index", fmt::format(R"("sort_index":{})", rank));
    for (int lane = 0; lane < kNumLanes; ++lane) {
      if (!used[static_cast<size_t>(lane)]) continue;
      put(rank, thread_of(lane), "thread_name",
          fmt::format(R"("name":"{}")", name_of(static_cast<Lane>(lane))));
      put(rank, thread_of(lane), "thread_sort_index", fmt::format(R"("sort_index":{})", lane));
    }
  }
  return separator;
}

std::string args_of(const Span& span) {
  std::string args =
      fmt::format(R"("kind":{},"pass":"{}")", json_quoted(span.kind), name_of(span.pass));
  if (span.microbatch >= 0) args += fmt::format(R"(,"microbatch":{})", span.microbatch);
  if (span.layer >= 0) args += fmt::format(R"(,"layer":{})", span.layer);
  if (span.chunk != 0) args += fmt::format(R"(,"chunk":{})", span.chunk);
  if (span.pair >= 0) args += fmt::format(R"(,"pair":{})", span.pair);
  if (span.bytes != 0) args += fmt::format(R"(,"bytes":{})", span.bytes);
  return args;
}

}  // namespace

const char* name_of(Pass pass) {
  static constexpr std::array kNames = {"forward", "input_gradient", "weight_gradient"};
  return kNames[static_cast<size_t>(pass)];
}

void write_perfetto(const Trace& trace, std::ostream& out) {
  write_head(trace, out);
  const char* separator = write_names(trace, out);
  for (const Span& span : trace.spans) {
    out << fmt::format(
        R"({}{{"ph":"X","pid":{},"tid":{},"ts":{},"dur":{},"name":{},"cat":{},"args":{{{}}}}})",
        separator, span.rank, thread_of(static_cast<int>(span.lane)), json_number(span.start_us),
        json_number(span.end_us - span.start_us), json_quoted(span.name), json_quoted(span.kind),
        args_of(span));
    separator = ",\n";
  }
  out << "\n]}\n";
}

}  // namespace strait
