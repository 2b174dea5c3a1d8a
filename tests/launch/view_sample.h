// tests/launch/view_sample.h: traces for the tests of launch/view: random ones, and files to put
// them in.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "launch/view/perfetto.h"
#include "parallel/sim/trace.h"

namespace strait {

inline auto fields_of(const Span& s) {
  return std::tie(s.rank, s.lane, s.name, s.kind, s.pass, s.microbatch, s.layer, s.chunk, s.pair,
                  s.bytes);
}

// Several ranks whose lanes each run one span at a time, with gaps; fractional times, names with
// and without micro-batch and layer, names that need escapes, fields left out.
inline Trace random_trace(uint32_t seed, int ranks = 3, int spans_per_lane = 40) {
  std::mt19937 random(seed);
  const auto chosen = [&](int count) {
    return static_cast<int>(random() % static_cast<uint32_t>(count));
  };
  Trace trace{
      .title = "a \"title\" with </script> & \xC3\xA9", .predicted = seed % 2 == 0, .spans = {}};
  for (int rank = 0; rank < ranks; ++rank)
    for (int lane = 0; lane < kNumLanes; ++lane) {
      if (lane == 4 && rank == 1) continue;
      double time = chosen(100) * 0.37;
      for (int n = 0; n < spans_per_lane; ++n) {
        Span span{.rank = rank * 5, .lane = static_cast<Lane>(lane), .name = {}, .kind = {}};
        span.kind = name_of(static_cast<Kind>(chosen(14)));
        span.pass = static_cast<Pass>(chosen(3));
        if (chosen(4) > 0) span.microbatch = chosen(120);
        if (chosen(4) > 0) span.layer = chosen(61);
        span.chunk = chosen(3);
        if (chosen(2) > 0) span.pair = chosen(1000);
        if (chosen(2) > 0) span.bytes = int64_t{chosen(1 << 30)} * 17;
        span.name = fmt::format("{}.{} m{} l{}", span.kind, "FBW"[static_cast<int>(span.pass)],
                                span.microbatch, span.layer);
        if (chosen(8) == 0)
          span.name = fmt::format("odd {{m}} \"{}\" \\ <tag> m3 l{}", n, span.layer);
        if (chosen(8) == 0)
          span.name = fmt::format("swap.B m{} l{} for F m{} l{}", span.microbatch, span.layer, n,
                                  span.layer);
        span.start_us = time;
        span.end_us = time + chosen(5000) * 0.0137;
        time = span.end_us + (chosen(3) > 0 ? chosen(800) * 0.021 : 0);
        trace.spans.push_back(span);
      }
    }
  std::shuffle(trace.spans.begin(), trace.spans.end(), random);
  return trace;
}

inline std::string perfetto_text(const Trace& trace) {
  std::ostringstream text;
  write_perfetto(trace, text);
  return text.str();
}

// A folder of its own, removed at the end.
class ViewFolder {
 public:
  ViewFolder()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("strait_view_{}_{}", getpid(), num_++)) {
    std::filesystem::create_directories(path_);
  }
  ~ViewFolder() { std::filesystem::remove_all(path_); }
  std::string path(const std::string& name) const { return (path_ / name).string(); }
  std::string put(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
    return path(name);
  }

 private:
  static inline int num_ = 0;
  std::filesystem::path path_;
};

}  // namespace strait
