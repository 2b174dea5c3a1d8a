// tests/core/decode_sampling_test.cpp: choosing the next token.
#include "core/nn/decode_sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "core/errors.h"

namespace strait {
namespace {

// How often each token comes in `draws` draws.
std::map<int32_t, double> shares(const std::vector<float>& logits, const SamplingSettings& settings,
                                 int draws = 20000) {
  std::map<int32_t, double> found;
  for (int draw = 0; draw < draws; ++draw)
    found[sample_token(logits, settings, static_cast<uint64_t>(draw))] += 1.0 / draws;
  return found;
}

const std::vector<float> kLogits = {0.0f, 2.0f, -1.0f, 1.0f, 2.0f};

TEST(SampleToken, GreedyTakesTheLargestAndTheLowestOfEquals) {
  EXPECT_EQ(sample_token(kLogits, {.temperature = 0}, 0), 1);
  EXPECT_EQ(sample_token(kLogits, {.temperature = 0, .top_p = 0.1, .seed = 9}, 5), 1);
  EXPECT_EQ(sample_token(std::vector<float>{-3.0f}, {}, 0), 0);
}

TEST(SampleToken, SharesAreTheSoftmax) {
  for (const double temperature : {0.5, 1.0, 2.0}) {
    const auto found = shares(kLogits, {.temperature = temperature, .seed = 4});
    double total = 0;
    for (const float logit : kLogits) total += std::exp(static_cast<double>(logit) / temperature);
    for (size_t i = 0; i < kLogits.size(); ++i) {
      const double wanted = std::exp(static_cast<double>(kLogits[i]) / temperature) / total;
      const double got =
          found.contains(static_cast<int32_t>(i)) ? found.at(static_cast<int32_t>(i)) : 0;
      EXPECT_NEAR(got, wanted, 5 * std::sqrt(wanted / 20000))
          << i << " at " << temperature;  // five sigma
    }
  }
}

// Probabilities 0.37, 0.37, 0.14, 0.05, ...: the smallest set that reaches top_p.
TEST(SampleToken, TopPKeepsTheLikeliest) {
  const auto kept = [](double top_p) {
    std::vector<int32_t> ids;
    for (const auto& [id, share] : shares(kLogits, {.top_p = top_p}, 2000)) ids.push_back(id);
    return ids;
  };
  EXPECT_EQ(kept(0.3), (std::vector<int32_t>{1}));  // of equals the lowest
  EXPECT_EQ(kept(0.5), (std::vector<int32_t>{1, 4}));
  EXPECT_EQ(kept(0.8), (std::vector<int32_t>{1, 3, 4}));
  EXPECT_EQ(kept(1.0), (std::vector<int32_t>{0, 1, 2, 3, 4}));
  const auto found = shares(kLogits, {.top_p = 0.8});
  EXPECT_NEAR(found.at(3), std::exp(1.0) / (std::exp(1.0) + 2 * std::exp(2.0)),
              0.02);  // renormalised
}

TEST(SampleToken, DrawsAreAFunctionOfTheSeed) {
  const std::vector<float> even(50, 0.0f);
  const auto draws = [&](uint64_t seed) {
    std::vector<int32_t> ids;
    for (uint64_t draw = 0; draw < 40; ++draw)
      ids.push_back(sample_token(even, {.seed = seed}, draw));
    return ids;
  };
  EXPECT_EQ(draws(1), draws(1));
  EXPECT_NE(draws(1), draws(2));
}

TEST(SampleToken, ExtremesAndWhatIsNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(sample_token(std::vector<float>{-infinity, 5.0f, -infinity}, {.top_p = 0.9}, 3), 1);
  EXPECT_EQ(sample_token(std::vector<float>{-1e30f, 1e30f}, {.temperature = 1e-3}, 3), 1);
  EXPECT_THROW(sample_token(std::vector<float>{0, NAN}, {}, 0), NumericsError);
  EXPECT_THROW(sample_token(std::vector<float>{0, infinity}, {.temperature = 0}, 0), NumericsError);
  EXPECT_THROW(sample_token(std::vector<float>{-infinity}, {}, 0), NumericsError);
  EXPECT_THROW(sample_token(std::vector<float>{}, {}, 0), InternalError);
}

}  // namespace
}  // namespace strait
