#include "parallel/expert/expected_route.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <set>

namespace strait {
namespace {

// Draws scores and chooses as the V3 and V2 reports say, with nothing of Strait's.
double drawn(int experts, const std::function<int(int)>& place_of, const RouteSettings& s,
             int tokens) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> uniform;
  const int size = experts / static_cast<int>(s.n_group);
  const bool two_best = s.method == RouteSettings::Method::noaux_tc;
  int64_t sum = 0;
  for (int token = 0; token < tokens; ++token) {
    std::vector<double> scores(static_cast<size_t>(experts));
    for (double& score : scores) score = uniform(random);
    std::vector<std::pair<double, int>> groups;
    for (int g = 0; g < s.n_group; ++g) {
      std::vector<double> own(scores.begin() + g * size, scores.begin() + (g + 1) * size);
      std::sort(own.begin(), own.end(), std::greater<>());
      groups.emplace_back(two_best ? own[0] + own[1] : own[0], g);
    }
    std::sort(groups.begin(), groups.end(), std::greater<>());
    std::vector<std::pair<double, int>> candidates;
    for (int i = 0; i < s.topk_group; ++i)
      for (int e = 0; e < size; ++e) {
        const int expert = groups[static_cast<size_t>(i)].second * size + e;
        candidates.emplace_back(scores[static_cast<size_t>(expert)], expert);
      }
    std::sort(candidates.begin(), candidates.end(), std::greater<>());
    std::set<int> hit;
    for (int k = 0; k < s.top_k; ++k)
      hit.insert(place_of(candidates[static_cast<size_t>(k)].second));
    sum += static_cast<int64_t>(hit.size());
  }
  return static_cast<double>(sum) / tokens;
}

double drawn(int experts, int parts, const RouteSettings& s, int tokens) {
  return drawn(
      experts, [&](int expert) { return expert / (experts / parts); }, s, tokens);
}

TEST(ExpectedParts, WithoutGroupsIsExact) {
  // All ways to choose 3 of 8 experts on 4 ranks, counted.
  int ways = 0, ranks = 0;
  for (int a = 0; a < 8; ++a)
    for (int b = a + 1; b < 8; ++b)
      for (int c = b + 1; c < 8; ++c) {
        ++ways;
        ranks += static_cast<int>(std::set<int>{a / 2, b / 2, c / 2}.size());
      }
  EXPECT_NEAR(expected_parts({.top_k = 3}, 8, 4), double(ranks) / ways, 1e-12);
  EXPECT_EQ(expected_parts({.top_k = 3}, 8, 1), 1);
  EXPECT_EQ(expected_parts({.top_k = 1}, 8, 8), 1);
  EXPECT_NEAR(expected_parts({.top_k = 8}, 8, 4), 4, 1e-12);
}

TEST(ExpectedParts, WithGroupsFollowTheRouter) {
  using Method = RouteSettings::Method;
  const RouteSettings v3{.top_k = 8, .n_group = 8, .topk_group = 4};
  EXPECT_NEAR(expected_parts(v3, 256, 8), drawn(256, 8, v3, 4000), 0.02);
  EXPECT_NEAR(expected_parts(v3, 256, 64), drawn(256, 64, v3, 4000), 0.05);
  EXPECT_LE(expected_parts(v3, 256, 8), 4);  // nodes are groups
  const RouteSettings v2{.top_k = 6,
                         .n_group = 8,
                         .topk_group = 3,
                         .scoring = RouteSettings::Scoring::softmax,
                         .method = Method::group_limited_greedy};
  EXPECT_NEAR(expected_parts(v2, 160, 8), drawn(160, 8, v2, 4000), 0.02);
  const RouteSettings all{.top_k = 8, .n_group = 8, .topk_group = 8};
  double missed = 1;  // none of 8 choices is one of a rank's 4 experts
  for (int k = 0; k < 8; ++k) missed *= double(252 - k) / (256 - k);
  EXPECT_NEAR(expected_parts(all, 256, 64), 64 * (1 - missed), 1e-9);
}

// Which waves are not free of: 64 ranks of 4 experts, 8 nodes, in 2 waves.
TEST(ExpectedParts, WavesAreMoreParts) {
  const RouteSettings v3{.top_k = 8, .n_group = 8, .topk_group = 4};
  EXPECT_NEAR(expected_parts(v3, 256, 16), drawn(256, 16, v3, 4000), 0.05);
  EXPECT_GT(expected_parts(v3, 256, 16), 1.3 * expected_parts(v3, 256, 8));
}

}  // namespace
}  // namespace strait
