// launch/commands/verify_report.h: what `strait verify` found, as a table for people and as JSON
// for programs.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace strait {

// The worst of many values that must not exceed a limit.
struct Gate {
  static constexpr double kShown =
      std::numeric_limits<double>::infinity();  // a limit that gates nothing

  std::string name;
  std::string unit;  // what the value counts or is relative to
  double limit = kShown;
  double worst = 0;
  std::string where = {};  // the worst value's tensor, layer, rank, step
  bool seen = false;

  // NaN is worse than any number.
  bool is_worse(double value) const { return !(worst != worst) && !(value <= worst); }
  void see(double value, const std::string& place) {
    seen = true;
    if (!is_worse(value)) return;
    worst = value;
    where = place;
  }
  void count(const std::string& place) {  // one more of what should not be; `where` is the first
    seen = true;
    worst += 1;
    if (where.empty()) where = place;
  }
  bool gates() const { return limit < kShown; }
  bool held() const { return !gates() || worst <= limit; }
};

struct FreeStep {
  int64_t step = 0;
  double loss = 0, reference_loss = 0;
};

struct VerifyReport {
  std::string recipe, precision, combine_wire, data, schedule;
  int64_t ranks = 1, pipeline = 1, expert = 1;
  bool pairs = false;
  int64_t steps = 0, sequences = 0, sequence_length = 0;
  int64_t choices = 0,
          flips = 0;  // of experts; a flip differs from one rank's choice and is replayed there
  std::vector<Gate> gates;
  std::vector<FreeStep> free_run;  // printed, never gated

  bool passed() const;
  int exit_code() const { return passed() ? 0 : 5; }
};
std::string to_table(const VerifyReport& report);
std::string to_json(const VerifyReport& report);

}  // namespace strait
