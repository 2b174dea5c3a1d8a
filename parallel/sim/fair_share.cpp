#include "parallel/sim/fair_share.h"

#include <algorithm>

namespace strait {
namespace {

constexpr double kRises = -1;
// Links that fill up at the same speed but for rounding fill up together; less of a link than this
// is nothing.
constexpr double kRounding = 1e-12;

}  // namespace

void FairShare::reset(int num_links) {
  loads_.clear();
  speed_.clear();
  left_.assign(static_cast<size_t>(num_links), 1.0);
  first_flow_ = first_load_ = 0;
}

int FairShare::add_flow() {
  speed_.push_back(kRises);
  return static_cast<int>(speed_.size()) - 1;
}

void FairShare::add_load(int link, double load) {
  if (load > 0) loads_.push_back({speed_.size() - 1, static_cast<size_t>(link), load});
}

void FairShare::fill() {
  while (stop_at_next_full_link()) {
  }
  for (size_t link = 0; link < left_.size(); ++link) {
    left_[link] = free_[link] - rising_[link];  // those that still rise reach 1
    if (left_[link] < kRounding) left_[link] = 0;
  }
  for (size_t flow = first_flow_; flow < speed_.size(); ++flow)
    if (speed_[flow] < 0) speed_[flow] = 1;
  first_flow_ = speed_.size();
  first_load_ = loads_.size();
}

// Lets the rising flows rise until a link is full and stops those that use it; false when none
// fills up before 1.
bool FairShare::stop_at_next_full_link() {
  free_ = left_;
  rising_.assign(left_.size(), 0.0);
  for (size_t i = first_load_; i < loads_.size(); ++i) {
    const auto& [flow, link, load] = loads_[i];
    if (speed_[flow] < 0)
      rising_[link] += load;
    else
      free_[link] -= speed_[flow] * load;
  }
  double level = 1;
  for (size_t link = 0; link < left_.size(); ++link)
    if (rising_[link] > 0) level = std::min(level, std::max(0.0, free_[link]) / rising_[link]);
  if (level >= 1) return false;
  for (size_t i = first_load_; i < loads_.size(); ++i) {
    const auto& [flow, link, load] = loads_[i];
    const bool full = rising_[link] > 0 && free_[link] <= rising_[link] * level * (1 + kRounding);
    if (full && speed_[flow] < 0) speed_[flow] = level;
  }
  return true;
}

}  // namespace strait
