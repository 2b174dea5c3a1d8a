// tests/core/router_reference.h: the router in FP64, as the reports describe it, by sorting.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/ops/router.h"

namespace strait::test {

inline std::vector<double> reference_scores(const double* logits, const RouteSettings& settings,
                                            int64_t experts) {
  std::vector<double> scores(logits, logits + experts);
  if (settings.scoring == RouteSettings::Scoring::sigmoid) {
    for (double& s : scores) s = 1 / (1 + std::exp(-s));
    return scores;
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& s : scores) sum += (s = std::exp(s - max));
  for (double& s : scores) s /= sum;
  return scores;
}

// Indices in descending order of value; equal values keep their order.
inline std::vector<int> descending(const std::vector<double>& values) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  return order;
}

inline std::vector<int> reference_route(const std::vector<double>& logits,
                                        const std::vector<double>& bias,
                                        const RouteSettings& settings, int64_t experts) {
  using Method = RouteSettings::Method;
  std::vector<int> ids;
  for (size_t at = 0; at < logits.size(); at += static_cast<size_t>(experts)) {
    std::vector<double> scores = reference_scores(logits.data() + at, settings, experts);
    for (size_t i = 0; i < bias.size(); ++i) scores[i] += bias[i];
    if (settings.method != Method::greedy) {
      const size_t size = static_cast<size_t>(experts / settings.n_group);
      std::vector<double> group_scores;
      for (size_t g = 0; g < static_cast<size_t>(settings.n_group); ++g) {
        std::vector<double> group(scores.begin() + static_cast<int64_t>(g * size),
                                  scores.begin() + static_cast<int64_t>((g + 1) * size));
        std::sort(group.rbegin(), group.rend());
        group_scores.push_back(settings.method == Method::noaux_tc && size > 1 ? group[0] + group[1]
                                                                               : group[0]);
      }
      const std::vector<int> order = descending(group_scores);
      for (size_t k = static_cast<size_t>(settings.topk_group); k < order.size(); ++k)
        for (size_t i = 0; i < size; ++i)
          scores[static_cast<size_t>(order[k]) * size + i] =
              -std::numeric_limits<double>::infinity();
    }
    const std::vector<int> order = descending(scores);
    ids.insert(ids.end(), order.begin(), order.begin() + settings.top_k);
  }
  return ids;
}

inline std::vector<double> reference_weights(const std::vector<double>& logits,
                                             const std::vector<int>& ids,
                                             const RouteSettings& settings, int64_t experts) {
  std::vector<double> weights;
  const size_t top_k = static_cast<size_t>(settings.top_k);
  for (size_t t = 0; t * static_cast<size_t>(experts) < logits.size(); ++t) {
    const std::vector<double> scores =
        reference_scores(logits.data() + t * static_cast<size_t>(experts), settings, experts);
    double sum = 0;
    for (size_t k = 0; k < top_k; ++k) sum += scores[static_cast<size_t>(ids[t * top_k + k])];
    for (size_t k = 0; k < top_k; ++k)
      weights.push_back(scores[static_cast<size_t>(ids[t * top_k + k])] /
                        (settings.norm_topk_prob ? sum : 1) * settings.routed_scaling_factor);
  }
  return weights;
}

// DeepSeek-V3 report, equations 17 to 20; per sequence of `length` tokens.
inline std::vector<double> reference_balance_loss(const std::vector<double>& logits,
                                                  const std::vector<int>& ids,
                                                  const RouteSettings& settings, int64_t experts,
                                                  int64_t length, double alpha) {
  std::vector<double> losses;
  const size_t num_experts = static_cast<size_t>(experts),
               top_k = static_cast<size_t>(settings.top_k);
  const size_t tokens = logits.size() / num_experts, per_sequence = static_cast<size_t>(length);
  for (size_t first = 0; first < tokens; first += per_sequence) {
    std::vector<double> f(num_experts), p(num_experts);
    for (size_t t = first; t < first + per_sequence; ++t) {
      const std::vector<double> s =
          reference_scores(logits.data() + t * num_experts, settings, experts);
      const double sum = std::accumulate(s.begin(), s.end(), 0.0);
      for (size_t i = 0; i < num_experts; ++i) p[i] += s[i] / sum / static_cast<double>(length);
      for (size_t k = 0; k < top_k; ++k)
        f[static_cast<size_t>(ids[t * top_k + k])] +=
            static_cast<double>(experts) / static_cast<double>(settings.top_k * length);
    }
    double loss = 0;
    for (size_t i = 0; i < num_experts; ++i) loss += alpha * f[i] * p[i];
    losses.push_back(loss);
  }
  return losses;
}

}  // namespace strait::test
