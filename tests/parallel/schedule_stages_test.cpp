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

// Among all cuts: the least (largest cost of a position, sum of squares of the stages).
std::pair<double, double> value_of(const std::vector<double>& costs, double embedding, double head,
                                   const std::vector<int>& sizes, StagePlaces places) {
  const size_t num_stages = sizes.size();
  std::vector<double> stage_costs;
  size_t layer = 0;
  for (size_t stage = 0; stage < num_stages; ++stage) {
    double cost = (stage == 0 ? embedding : 0) + (stage + 1 == num_stages ? head : 0);
    for (int i = 0; i < sizes[stage]; ++i) cost += costs[layer++];
    stage_costs.push_back(cost);
  }
  double largest = 0, squares = 0;
  for (size_t stage = 0; stage < num_stages; ++stage) {
    const double beside = places == StagePlaces::mirrored ? stage_costs[num_stages - 1 - stage] : 0;
    largest = std::max(largest, stage_costs[stage] + beside);
    squares += stage_costs[stage] * stage_costs[stage];
  }
  return {largest, squares};
}

// Of equal ones, the largest sizes from the front.
std::vector<int> best_sizes(const std::vector<double>& costs, double embedding, double head,
                            int num_stages, StagePlaces places) {
  const int num_layers = static_cast<int>(costs.size());
  std::vector<int> sizes, best;
  std::pair<double, double> kept;
  const std::function<void(int)> cut = [&](int first) {
    const int left = num_stages - static_cast<int>(sizes.size());
    if (left == 0) {
      if (first != num_layers) return;
      const auto value = value_of(costs, embedding, head, sizes, places);
      if (best.empty() || value < kept || (value == kept && sizes > best)) {
        best = sizes;
        kept = value;
      }
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
      ASSERT_EQ(sizes_of(cut), best_sizes(costs, embedding, head, stages, StagePlaces::apart));
      uneven += sizes_of(cut).front() != sizes_of(cut).back();
    }
  }
  EXPECT_GT(uneven, 100);
}

TEST(Stages, MirroredEqualToBruteForce) {
  std::mt19937 random(6);
  int otherwise = 0;
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<double> costs;
    for (size_t layer = 0, all = 2 + random() % 8; layer < all; ++layer)
      costs.push_back(static_cast<double>(random() % 4));
    const double embedding = static_cast<double>(random() % 3);
    const double head = static_cast<double>(random() % 6);
    const int hidden = static_cast<int>(costs.size());
    for (int stages = 2; stages <= hidden; stages += 2) {
      const auto sizes =
          sizes_of(cut_stages(costs, embedding, head, hidden, stages, StagePlaces::mirrored));
      const auto best = best_sizes(costs, embedding, head, stages, StagePlaces::mirrored);
      ASSERT_EQ(value_of(costs, embedding, head, sizes, StagePlaces::mirrored),
                value_of(costs, embedding, head, best, StagePlaces::mirrored));
      otherwise += sizes != sizes_of(cut_stages(costs, embedding, head, hidden, stages));
    }
  }
  EXPECT_GT(otherwise, 50);
}

// DeepSeek-V3 as DualPipe has it on 16 positions, with a head as heavy as four layers: even compute
// gives two positions nine layers; with eight at most, the position of the head has the six left.
TEST(Stages, MirroredPositionsAreEven) {
  const std::vector<double> costs(62, 0.1);
  const auto layers_of = [&](int most_layers) {
    const auto sizes =
        sizes_of(cut_stages(costs, 0.01, 0.44, 61, 16, StagePlaces::mirrored, most_layers));
    std::vector<int> layers;
    for (size_t stage = 0; stage < 8; ++stage) {
      layers.push_back(sizes[stage] + sizes[15 - stage]);
      if (stage > 0 || most_layers == 8) {
        EXPECT_LE(std::abs(sizes[stage] - sizes[15 - stage]), 1) << stage;
      }
    }
    return layers;
  };
  EXPECT_EQ(layers_of(100), (std::vector{4, 8, 9, 8, 9, 8, 8, 8}));
  EXPECT_EQ(layers_of(8), (std::vector{6, 8, 8, 8, 8, 8, 8, 8}));
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
