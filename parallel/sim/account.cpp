#include <algorithm>
#include <utility>

#include "parallel/sim/simulate.h"

namespace strait {
namespace {

using Intervals = std::vector<std::pair<double, double>>;  // start, end

// Sorted and without overlaps.
Intervals merged(Intervals intervals) {
  std::sort(intervals.begin(), intervals.end());
  Intervals merged;
  for (const auto& [start, end] : intervals) {
    if (merged.empty() || start > merged.back().second)
      merged.emplace_back(start, end);
    else
      merged.back().second = std::max(merged.back().second, end);
  }
  return merged;
}

double length(const Intervals& intervals) {
  double sum = 0;
  for (const auto& [start, end] : intervals) sum += end - start;
  return sum;
}

double common_length(const Intervals& a, const Intervals& b) {
  double sum = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    sum += std::max(0.0, std::min(a[i].second, b[j].second) - std::max(a[i].first, b[j].first));
    a[i].second < b[j].second ? ++i : ++j;
  }
  return sum;
}

}  // namespace

LaneAccount account(const Program& program, std::span<const TaskTime> times, double makespan) {
  Intervals compute, transfers;
  for (size_t i = 0; i < program.tasks.size(); ++i) {
    const Lane lane = program.tasks[i].lane;
    if (lane == Lane::compute)
      compute.emplace_back(times[i].start, times[i].end);
    else if (is_transfer(lane))
      transfers.emplace_back(times[i].start, times[i].end);
  }
  compute = merged(std::move(compute));
  transfers = merged(std::move(transfers));
  LaneAccount result;
  result.compute_seconds = length(compute);
  result.transfer_seconds = length(transfers);
  result.hidden_seconds = common_length(compute, transfers);
  // Sums that are equal but for rounding leave nothing, not less.
  result.exposed_seconds = std::max(0.0, result.transfer_seconds - result.hidden_seconds);
  result.idle_seconds = std::max(0.0, makespan - result.compute_seconds - result.exposed_seconds);
  return result;
}

}  // namespace strait
