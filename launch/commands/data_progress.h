// launch/commands/data_progress.h: how far a long command is, on stderr: a bar on a terminal, else
// a line every few seconds. One thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace strait {

class ProgressDisplay {
 public:
  ProgressDisplay();
  ~ProgressDisplay();  // ends a bar's line
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  // Cheap when there is nothing to show yet. `bytes`: done and total are bytes, else just numbers.
  void show(const std::string& phase, int64_t done, int64_t total, bool bytes);

 private:
  using Clock = std::chrono::steady_clock;
  void print_bar(int64_t done, int64_t total, const std::string& numbers);

  bool terminal_, bar_open_ = false;
  std::string phase_;
  Clock::time_point phase_start_, next_;
};

}  // namespace strait
