#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "core/errors.h"
#include "parallel/pipeline/stages.h"
#include "tests/parallel/schedule_samples.h"

namespace strait {
namespace {

std::vector<int> sizes_of(const std::vector<StageLayers>& stages) {
  std::vector<int> sizes;
  for (const StageLayers& stage : stages) sizes.push_back(stage.end_layer - stage.first_layer);
  return sizes;
}

// Among all cuts: the least (largest cost, sum of squares), then the largest sizes from the front.
std::vector<int> best_sizes(const std::vector<double>& costs, double embedding, double head,
                            int num_stages) {
  const int num_layers = static_cast<int>(costs.size());
  std::vector<int> sizes, best;
  double best_largest = 0, best_squares = 0;
  const std::function<void(int)> cut = [&](int first) {
    const int left = num_stages - static_cast<int>(sizes.size());
    if (left == 0) {
      if (first != num_layers) return;
      double largest = 0, squares = 0;
      int layer = 0;
      for (int stage = 0; stage < num_stages; ++stage) {
        double cost = (stage == 0 ? embedding : 0) + (stage + 1 == num_stages ? head : 0);
        for (int i = 0; i < sizes[stage]; ++i) cost += costs[layer++];
        largest = std::max(largest, cost);
        squares += cost * cost;
      }
      const auto value = std::tuple(largest, squares);
      const auto kept = std::tuple(best_largest, best_squares);
      if (best.empty() || value < kept || (value == kept && sizes > best))
        best = sizes, best_largest = largest, best_squares = squares;
      return;
    }
    for (int size = 1; first + size + left - 1 <= num_layers; ++size) {
      sizes.push_back(size);
      cut(first + size);
      sizes.pop_back();
    }
  };
  cut(0);
  return best;
}

TEST(Stages, EqualToBruteForce) {
  std::mt19937 random(5);
  int uneven = 0;
  for (int trial = 0; trial < 600; ++trial) {
    const int num_hidden = 1 + static_cast<int>(random() % 9);
    const bool mtp = random() % 2 == 0;
    std::vector<double> costs;  // few integers: many cuts are equal
    for (int layer = 0; layer < num_hidden + (mtp ? 1 : 0); ++layer)
      costs.push_back(static_cast<double>(random() % 4));
    const double embedding = static_cast<double>(random() % 3);
    const double head = static_cast<double>(random() % 6);
    for (int stages = 1; stages <= static_cast<int>(costs.size()); ++stages) {
      const auto cut = cut_stages(costs, embedding, head, num_hidden, stages);
      ASSERT_EQ(sizes_of(cut), best_sizes(costs, embedding, head, stages));
      uneven += sizes_of(cut).front() != sizes_of(cut).back();
    }
  }
  EXPECT_GT(uneven, 100);
}

TEST(Stages, EveryLayerOnceEmbeddingFirstHeadLast) {
  const std::vector<double> costs(62, 1.0);  // 61 layers and the MTP module
  const auto stages = cut_stages(costs, 0.1, 2.0, 61, 16);
  int next = 0;
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    EXPECT_EQ(stages[stage].first_layer, next);
    EXPECT_EQ(stages[stage].embeds, stage == 0);
    EXPECT_EQ(stages[stage].has_head, stage == 15);
    next = stages[stage].end_layer;
  }
  EXPECT_EQ(next, 62);
  // 15 stages of 4 would leave 2 layers and the head, a cost of 4: no stage is above the
  // embedding's.
  EXPECT_EQ(sizes_of(stages).back(), 2);
  EXPECT_EQ(sizes_of(stages).front(), 4);
}

TEST(Stages, AHeavyHeadIsAlone) {
  EXPECT_EQ(sizes_of(cut_stages(std::vector<double>(8, 1.0), 0, 4, 8, 3)), (std::vector{4, 3, 1}));
  EXPECT_EQ(sizes_of(cut_stages(std::vector<double>(8, 1.0), 0, 0, 8, 3)), (std::vector{3, 3, 2}));
  EXPECT_EQ(sizes_of(cut_stages(std::vector<double>(5, 1.0), 0, 0, 5, 5)),
            (std::vector{1, 1, 1, 1, 1}));
}

TEST(Stages, MoreStagesThanLayers) {
  const auto refusal = [](size_t costs, int hidden, int stages) {
    return message_of<RecipeError>(
        [&] { cut_stages(std::vector<double>(costs, 1.0), 0, 0, hidden, stages); });
  };
  EXPECT_EQ(refusal(4, 4, 5),
            "5 pipeline stages: each needs a layer, and the model has 4; the nearest that works: "
            "4");
  EXPECT_EQ(refusal(5, 4, 8),
            "8 pipeline stages: each needs a layer, and the model has 5 with the MTP module; the "
            "nearest that works: 5");
}

}  // namespace
}  // namespace strait
