#include "parallel/pipeline/stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/errors.h"

namespace strait {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

// [first][end]: of a stage with layers [first, end), embedding and head included.
using Costs = std::vector<std::vector<double>>;

Costs stage_costs(std::span<const double> layer_cost, double embedding, double head) {
  const size_t num_layers = layer_cost.size();
  Costs costs(num_layers, std::vector<double>(num_layers + 1));
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
std::vector<std::vector<double>> least(const Costs& costs, size_t num_stages, Join join) {
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

std::vector<size_t> ends_apart(const Costs& costs, size_t num_stages) {
  const double largest = least(costs, num_stages, [](double stage, double rest) {
    return std::max(stage, rest);
  })[num_stages][0];
  const auto squares = [largest](double stage, double rest) {
    return stage > largest ? kImpossible : stage * stage + rest;
  };
  const auto best = least(costs, num_stages, squares);
  std::vector<size_t> ends;
  size_t first = 0;
  for (size_t left = num_stages; left > 0; --left) {
    size_t end = costs.size();  // the most layers that still give the best: values compare equal,
                                // being made the same way
    while (squares(costs[first][end], best[left - 1][end]) != best[left][first]) --end;
    ends.push_back(end);
    first = end;
  }
  return ends;
}

// Two stages of one position.
struct Pair {
  double front, back;  // costs
  double front_layers, back_layers;
};

// Pairs of stages from the outside in: the value of layers [first, end) in `left` pairs, made by
// `join` from the outer pair and the value of what lies between them.
template <class Join>
class MirroredLeast {
 public:
  MirroredLeast(const Costs& costs, size_t num_pairs, double most, size_t most_layers, Join join)
      : costs_(costs), most_(most), most_layers_(most_layers), join_(join) {
    const size_t n = costs.size();
    best_.assign(num_pairs + 1,
                 std::vector<std::vector<double>>(n + 1, std::vector<double>(n + 1, kImpossible)));
    for (size_t at = 0; at <= n; ++at) best_[0][at][at] = 0;
    for (size_t left = 1; left <= num_pairs; ++left) {
      const size_t outside = num_pairs - left;  // pairs, each of a layer at least on both sides
      for (size_t first = outside; first + 2 * left <= n; ++first)
        for (size_t end = first + 2 * left; end + outside <= n; ++end)
          each_pair(left, first, end, [&](size_t, size_t, double value) {
            best_[left][first][end] = std::min(best_[left][first][end], value);
            return false;
          });
    }
  }

  double best(size_t left, size_t first, size_t end) const { return best_[left][first][end]; }

  // Calls done(end of the front stage, first of the back stage, value) for the possible outer pairs
  // until it returns true, largest front stage first.
  template <class Done>
  void each_pair(size_t left, size_t first, size_t end, Done done) const {
    const size_t inside = 2 * (left - 1);
    if (left == 1) {  // the innermost pair meets
      for (size_t middle = end - 1; middle > first; --middle)
        if (take(left, first, middle, middle, end, done)) return;
      return;
    }
    size_t longest = first + 1;
    while (longest + inside + 1 < end && costs_[first][longest + 1] <= most_) ++longest;
    for (size_t front = longest; front > first; --front)
      for (size_t back = end - 1; back >= front + inside; --back) {
        if (costs_[first][front] + costs_[back][end] > most_) break;
        if (take(left, first, front, back, end, done)) return;
      }
  }

 private:
  template <class Done>
  bool take(size_t left, size_t first, size_t front, size_t back, size_t end, Done& done) const {
    if (front - first + end - back > most_layers_) return false;
    const Pair pair{.front = costs_[first][front],
                    .back = costs_[back][end],
                    .front_layers = static_cast<double>(front - first),
                    .back_layers = static_cast<double>(end - back)};
    return done(front, back, join_(pair, best_[left - 1][front][back]));
  }

  const Costs& costs_;
  double most_;
  size_t most_layers_;
  Join join_;
  std::vector<std::vector<std::vector<double>>> best_;  // [pairs left][first][end]
};

std::vector<size_t> ends_mirrored(const Costs& costs, size_t num_stages, size_t most_layers) {
  const size_t num_layers = costs.size(), num_pairs = num_stages / 2;
  // Unless layers are limited, even stages are a cut too: nothing above its largest position needs
  // a look.
  const bool by_layers = most_layers < num_layers;
  double most = kImpossible;
  if (!by_layers) {
    most = 0;
    const std::vector<size_t> even = ends_apart(costs, num_stages);
    for (size_t s = 0; s < num_pairs; ++s) {
      const size_t mirror = num_stages - 1 - s;
      most = std::max(
          most, costs[s == 0 ? 0 : even[s - 1]][even[s]] + costs[even[mirror - 1]][even[mirror]]);
    }
  }
  const auto largest_of = [](const Pair& pair, double rest) {
    return std::max(pair.front + pair.back, rest);
  };
  // Sums of the same layers, differently parted, differ in their last bits.
  constexpr double kSlack = 1 + 1e-9;
  const double largest =
      kSlack * MirroredLeast(costs, num_pairs, kSlack * most, most_layers, largest_of)
                   .best(num_pairs, 0, num_layers);
  const auto squares = [largest, by_layers](const Pair& pair, double rest) {
    if (pair.front + pair.back > largest) return kImpossible;
    const double front = by_layers ? pair.front_layers : pair.front,
                 back = by_layers ? pair.back_layers : pair.back;
    return front * front + back * back + rest;
  };
  const MirroredLeast least_squares(costs, num_pairs, largest, most_layers, squares);
  std::vector<size_t> ends(num_stages);
  size_t first = 0, end = num_layers;
  for (size_t left = num_pairs; left > 0; --left) {
    const double best = least_squares.best(left, first, end);
    const size_t stage = num_pairs - left;
    size_t new_first = first, new_end = end;
    least_squares.each_pair(left, first, end, [&](size_t front, size_t back, double value) {
      new_first = front;
      new_end = back;
      return value == best;
    });
    ends[stage] = new_first;
    ends[num_stages - 1 - stage] = end;
    first = new_first;
    end = new_end;
  }
  return ends;
}

}  // namespace

std::vector<StageLayers> cut_stages(std::span<const double> layer_cost, double embedding_cost,
                                    double head_cost, int num_hidden_layers, int num_stages,
                                    StagePlaces places, int most_layers) {
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

  STRAIT_CHECK(places == StagePlaces::apart || num_stages % 2 == 0,
               fmt::format("{} mirrored stages", num_stages));
  STRAIT_CHECK(int64_t{most_layers} * num_stages >= 2 * int64_t{num_layers},
               fmt::format("{} layers a position for {}", most_layers, num_layers));

  const Costs costs = stage_costs(layer_cost, embedding_cost, head_cost);
  const auto count = static_cast<size_t>(num_stages);
  std::vector<StageLayers> stages;
  int first = 0;
  for (const size_t end : places == StagePlaces::mirrored
                              ? ends_mirrored(costs, count, static_cast<size_t>(most_layers))
                              : ends_apart(costs, count)) {
    stages.push_back({.first_layer = first, .end_layer = static_cast<int>(end)});
    first = static_cast<int>(end);
  }
  stages.front().embeds = true;
  stages.back().has_head = true;
  return stages;
}

}  // namespace strait
