#include "launch/trainer/balance.h"

#include <algorithm>
#include <numeric>

namespace strait {

MaxViolation max_violation(std::span<const int64_t> counts, int64_t num_experts) {
  MaxViolation result;
  const auto experts = static_cast<size_t>(num_experts);
  for (size_t first = 0; first < counts.size(); first += experts) {
    const auto layer = counts.subspan(first, experts);
    const double sum = static_cast<double>(std::accumulate(layer.begin(), layer.end(), int64_t{0}));
    if (sum == 0) continue;
    const double most = static_cast<double>(*std::max_element(layer.begin(), layer.end()));
    const double violation = most * static_cast<double>(num_experts) / sum - 1;
    result.mean += violation;
    result.worst_layer = std::max(result.worst_layer, violation);
  }
  if (!counts.empty()) {
    const size_t layers = counts.size() / experts;
    result.mean /= static_cast<double>(layers);
  }
  return result;
}

}  // namespace strait
