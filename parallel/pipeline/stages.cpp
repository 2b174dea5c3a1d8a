#include "parallel/pipeline/stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/errors.h"

namespace strait {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

// costs[first][end]: of a stage with layers [first, end), embedding and head included.
std::vector<std::vector<double>> stage_costs(std::span<const double> layer_cost, double embedding,
                                             double head) {
  const size_t num_layers = layer_cost.size();
  std::vector<std::vector<double>> costs(num_layers, std::vector<double>(num_layers + 1));
  for (size_t first = 0; first < num_layers; ++first) {
    double cost = first == 0 ? embedding : 0;
    for (size_t end = first + 1; end <= num_layers; ++end) {
      cost += layer_cost[end - 1];
      costs[first][end] = cost + (end == num_layers ? head : 0);
    }
  }
  return costs;
}

// Dynamic programming over [stages left][first layer], backwards. `join` makes the value of the
// stages from a stage's cost and the value of those after it; the least is kept.
template <class Join>
std::vector<std::vector<double>> least(const std::vector<std::vector<double>>& costs,
                                       size_t num_stages, Join join) {
  const size_t num_layers = costs.size();
  std::vector<std::vector<double>> best(num_stages + 1,
                                        std::vector<double>(num_layers + 1, kImpossible));
  best[0][num_layers] = 0;
  for (size_t left = 1; left <= num_stages; ++left)
    for (size_t first = 0; first < num_layers; ++first)
      for (size_t end = first + 1; end <= num_layers; ++end)
        best[left][first] =
            std::min(best[left][first], join(costs[first][end], best[left - 1][end]));
  return best;
}

}  // namespace

std::vector<StageLayers> cut_stages(std::span<const double> layer_cost, double embedding_cost,
                                    double head_cost, int num_hidden_layers, int num_stages) {
  const int num_layers = static_cast<int>(layer_cost.size());
  STRAIT_CHECK(num_hidden_layers >= 1 &&
                   (num_layers == num_hidden_layers || num_layers == num_hidden_layers + 1),
               fmt::format("{} costs for {} layers", num_layers, num_hidden_layers));
  STRAIT_CHECK(
      std::ranges::all_of(layer_cost, [](double c) { return c >= 0 && std::isfinite(c); }) &&
          embedding_cost >= 0 && std::isfinite(embedding_cost) && head_cost >= 0 &&
          std::isfinite(head_cost),
      "costs must be finite and not negative");
  STRAIT_CHECK(num_stages >= 1, fmt::format("{} stages", num_stages));
  if (num_stages > num_layers)
    throw RecipeError(
        fmt::format("{} pipeline stages: each needs a layer, and the model has {}{}; the nearest "
                    "that works: {}",
                    num_stages, num_layers,
                    num_layers > num_hidden_layers ? " with the MTP module" : "", num_layers));

  const auto costs = stage_costs(layer_cost, embedding_cost, head_cost);
  const double largest = least(costs, num_stages, [](double stage, double rest) {
    return std::max(stage, rest);
  })[num_stages][0];
  const auto squares = [largest](double stage, double rest) {
    return stage > largest ? kImpossible : stage * stage + rest;
  };
  const auto best = least(costs, num_stages, squares);
  std::vector<StageLayers> stages;
  int first = 0;
  for (int left = num_stages; left > 0; --left) {
    int end = num_layers;  // the most layers that still give the best: values compare equal, being
                           // made the same way
    while (squares(costs[first][end], best[left - 1][end]) != best[left][first]) --end;
    stages.push_back({.first_layer = first, .end_layer = end});
    first = end;
  }
  stages.front().embeds = true;
  stages.back().has_head = true;
  return stages;
}

}  // namespace strait
