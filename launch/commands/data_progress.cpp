#include "launch/commands/data_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "launch/trainer/report.h"

namespace strait {
namespace {

constexpr std::chrono::milliseconds kBarEvery(100), kLineEvery(5000);

std::string amounts(int64_t done, int64_t total, bool bytes) {
  if (!bytes) return fmt::format("{} of {}", done, total);
  return fmt::format("{} of {}", bytes_text(static_cast<double>(done)),
                     bytes_text(static_cast<double>(total)));
}

}  // namespace

ProgressDisplay::ProgressDisplay()
    : terminal_(::isatty(STDERR_FILENO) == 1), next_(Clock::now() + kLineEvery) {}

ProgressDisplay::~ProgressDisplay() {
  if (bar_open_) std::fputs("\n", stderr);
}

void ProgressDisplay::show(const std::string& phase, int64_t done, int64_t total, bool bytes) {
  const Clock::time_point now = Clock::now();
  const bool fresh = phase != phase_;
  if (fresh) {
    if (bar_open_) std::fputs("\n", stderr);
    bar_open_ = false;
    phase_ = phase;
    phase_start_ = now;
  }
  const bool due = now >= next_ || (terminal_ && (fresh || done >= total));
  if (!due) return;
  next_ = now + (terminal_ ? kBarEvery : kLineEvery);
  std::string numbers = amounts(done, total, bytes);
  const double seconds = std::chrono::duration<double>(now - phase_start_).count();
  if (done > 0 && done < total && seconds > 2)
    numbers += fmt::format(", {} left", duration_text(seconds * static_cast<double>(total - done) /
                                                      static_cast<double>(done)));
  if (terminal_)
    print_bar(done, total, numbers);
  else
    fmt::print(stderr, "{}: {}\n", phase_, numbers);
  std::fflush(stderr);
}

void ProgressDisplay::print_bar(int64_t done, int64_t total, const std::string& numbers) {
  constexpr int64_t kWidth = 30;
  const int64_t filled = total > 0 ? std::min(kWidth, kWidth * done / total) : kWidth;
  const int64_t percent = total > 0 ? 100 * done / total : 100;
  fmt::print(stderr, "\r{:<16} [{:#<{}}{:.<{}}] {:>3}%  {}\x1b[K", phase_, "", filled, "",
             kWidth - filled, percent, numbers);
  bar_open_ = true;
}

}  // namespace strait
