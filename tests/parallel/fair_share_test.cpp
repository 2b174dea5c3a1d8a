// Progressive filling against what defines max-min fairness: no link is overfull, and every flow
// runs at full speed or has a bottleneck, a full link on which no flow is faster.
#include "parallel/sim/fair_share.h"

#include <gtest/gtest.h>

#include <random>

namespace strait {
namespace {

constexpr double kTiny = 1e-9;

struct Flows {
  int num_links = 0;
  std::vector<std::vector<double>> load;  // [flow][link]
};

Flows random_flows(std::mt19937& random) {
  const auto below = [&](int end) {
    return static_cast<int>(random() % static_cast<unsigned>(end));
  };
  Flows flows{.num_links = 1 + below(6), .load = {}};
  flows.load.resize(static_cast<size_t>(1 + below(8)));
  const double kLoads[] = {0.15, 0.25, 0.5, 1};
  for (auto& loads : flows.load)
    for (int link = 0; link < flows.num_links; ++link) {
      const bool uses = below(2) == 0;
      loads.push_back(!uses      ? 0
                      : below(2) ? kLoads[below(4)]
                                 : std::uniform_real_distribution<>(0, 1)(random));
    }
  return flows;
}

void add(FairShare& share, const std::vector<double>& loads) {
  share.add_flow();
  for (size_t link = 0; link < loads.size(); ++link)
    share.add_load(static_cast<int>(link), loads[link]);
}

// Of flows [first, end), on links of capacity `left`.
void expect_fair(const Flows& flows, const FairShare& share, size_t first, size_t end,
                 std::vector<double> left) {
  for (size_t link = 0; link < left.size(); ++link) {
    for (size_t f = first; f < end; ++f)
      left[link] -= flows.load[f][link] * share.speed(static_cast<int>(f));
    EXPECT_GE(left[link], -kTiny) << "link " << link;
  }
  for (size_t f = first; f < end; ++f) {
    const double speed = share.speed(static_cast<int>(f));
    ASSERT_GE(speed, 0);
    ASSERT_LE(speed, 1);
    if (speed == 1) continue;
    bool has_bottleneck = false;
    for (size_t link = 0; link < left.size(); ++link) {
      bool is_fastest = flows.load[f][link] > 0 && left[link] < kTiny;
      for (size_t g = first; g < end; ++g)
        if (flows.load[g][link] > 0 && share.speed(static_cast<int>(g)) > speed + kTiny)
          is_fastest = false;
      has_bottleneck |= is_fastest;
    }
    EXPECT_TRUE(has_bottleneck) << "flow " << f << " at " << speed;
  }
}

TEST(FairShare, EveryFlowIsAtFullSpeedOrHasABottleneck) {
  std::mt19937 random(1);
  FairShare share;
  int num_slowed = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    const Flows flows = random_flows(random);
    share.reset(flows.num_links);
    for (const auto& loads : flows.load) add(share, loads);
    share.fill();
    expect_fair(flows, share, 0, flows.load.size(),
                std::vector<double>(static_cast<size_t>(flows.num_links), 1.0));
    for (size_t f = 0; f < flows.load.size(); ++f)
      num_slowed += share.speed(static_cast<int>(f)) < 1;
  }
  EXPECT_GT(num_slowed, 20000);
}

TEST(FairShare, LaterFlowsShareWhatEarlierOnesLeave) {
  std::mt19937 random(2);
  FairShare share, alone;
  for (int trial = 0; trial < 20000; ++trial) {
    const Flows flows = random_flows(random);
    const size_t first = flows.load.size() / 2;
    share.reset(flows.num_links);
    alone.reset(flows.num_links);
    for (size_t f = 0; f < first; ++f) add(share, flows.load[f]), add(alone, flows.load[f]);
    share.fill();
    alone.fill();
    for (size_t f = first; f < flows.load.size(); ++f) add(share, flows.load[f]);
    share.fill();
    std::vector<double> left(static_cast<size_t>(flows.num_links), 1.0);
    for (size_t f = 0; f < first; ++f) {
      EXPECT_EQ(share.speed(static_cast<int>(f)), alone.speed(static_cast<int>(f)));
      for (size_t link = 0; link < left.size(); ++link)
        left[link] -= flows.load[f][link] * share.speed(static_cast<int>(f));
    }
    expect_fair(flows, share, first, flows.load.size(), left);
  }
}

}  // namespace
}  // namespace strait
