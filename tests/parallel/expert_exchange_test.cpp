// Flat and two-tier exchanges between ranks that are threads, against one rank: bits, order, bytes.
#include "parallel/expert/expert_exchange.h"

#include <gtest/gtest.h>

#include <cmath>

#include "exchange_checks.h"
#include "parallel/comm/local.h"

namespace strait {
namespace {

using tests::ExchangeCase;
using tests::ExchangeResult;

std::vector<std::string> hosts_of(int nodes, int ranks_per_node) {
  std::vector<std::string> hosts;
  for (int rank = 0; rank < nodes * ranks_per_node; ++rank)
    hosts.push_back("host" + std::to_string(rank / ranks_per_node));
  return hosts;
}

struct Layout {
  int nodes, ranks_per_node, chunks;  // chunks 0: flat
};

// Results by rank.
std::vector<ExchangeResult> run_layout(const ExchangeCase& c, const Layout& layout) {
  LocalWorld world(layout.nodes * layout.ranks_per_node,
                   hosts_of(layout.nodes, layout.ranks_per_node));
  std::vector<ExchangeResult> results(static_cast<size_t>(world.size()));
  run_ranks(world, [&](Rank rank, Comm& comm) {
    results[static_cast<size_t>(rank.value)] =
        tests::run_exchange(c, &comm, layout.chunks > 0, std::max(1, layout.chunks));
  });
  return results;
}

std::vector<float> sums_of(const std::vector<ExchangeResult>& results) {
  std::vector<float> sums;
  for (const ExchangeResult& result : results)
    sums.insert(sums.end(), result.sums.begin(), result.sums.end());
  return sums;
}

class Exchanges : public testing::TestWithParam<Layout> {};

TEST_P(Exchanges, HaveTheBitsOfOneRank) {
  const auto [nodes, ranks_per_node, chunks] = GetParam();
  for (const ExchangeCase& c :
       {ExchangeCase{}, ExchangeCase{.tokens = 3, .top_k = 1},
        ExchangeCase{.top_k = 16, .hidden = 7}, ExchangeCase{.top_k = 7, .waves = 2},
        ExchangeCase{.num_experts = 32, .top_k = 32, .hidden = 9, .waves = 4},
        ExchangeCase{.num_groups = 4, .topk_group = 2, .compute = DType::bf16},
        ExchangeCase{.hidden = 300, .compute = DType::bf16, .fp8 = true},
        ExchangeCase{.top_k = 7, .compute = DType::bf16, .fp8 = true, .waves = 2}}) {
    const ExchangeResult one = tests::run_exchange(c, nullptr, false, 1);
    LocalWorld world(nodes * ranks_per_node, hosts_of(nodes, ranks_per_node));
    run_ranks(world, [&, chunks = chunks](Rank, Comm& comm) {
      tests::check_same_bits(c, one, comm, chunks > 0, std::max(1, chunks));
    });
  }
}

// A row to the experts is its codes and scales, and its gradient on the way there, too.
TEST_P(Exchanges, Fp8RowsTakeAByteAnElementAndTheirScales) {
  const Layout& layout = GetParam();
  const ExchangeCase there{.hidden = 256, .compute = DType::bf16, .backward = false};
  ExchangeCase both = there;
  both.backward = true;
  const auto floor_of = [&](ExchangeCase c, bool fp8) {
    c.fp8 = fp8;
    c.wire = DType::bf16;
    int64_t bytes = 0;
    for (const ExchangeResult& result : run_layout(c, layout)) bytes += result.floor_bytes;
    return bytes;
  };
  // A BF16 row crosses there and back, and twice more backward; in FP8 one of each two has 1 byte
  // and 4 / 128 an element.
  const int64_t row = there.hidden * 2, codes = there.hidden + 2 * 4;
  const int64_t rows = floor_of(there, false) / (2 * row);
  EXPECT_EQ(floor_of(there, true), rows * (row + codes));
  EXPECT_EQ(floor_of(both, true), 2 * rows * (row + codes));
}

// Sums in FP8 are those in BF16, each part of them off by half a step of E4M3 at most: a sixteenth
// of the number, or of its tile's least normal one.
TEST_P(Exchanges, Fp8SumsAreRoundedOnceForEachCrossing) {
  const Layout& layout = GetParam();
  ExchangeCase c{.hidden = 256, .compute = DType::bf16, .wire = DType::bf16, .waves = 2};
  const std::vector<ExchangeResult> plain = run_layout(c, layout);
  c.fp8_sums = true;
  const std::vector<ExchangeResult> coded = run_layout(c, layout);
  double difference = 0, size = 0;
  int64_t plain_floor = 0, coded_floor = 0;
  for (size_t rank = 0; rank < plain.size(); ++rank) {
    EXPECT_EQ(coded[rank].d_x, plain[rank].d_x);  // gradients are not coded
    plain_floor += plain[rank].floor_bytes, coded_floor += coded[rank].floor_bytes;
    for (size_t i = 0; i < plain[rank].sums.size(); ++i) {
      difference += std::pow(double{coded[rank].sums[i]} - double{plain[rank].sums[i]}, 2);
      size += std::pow(double{plain[rank].sums[i]}, 2);
    }
  }
  EXPECT_GT(std::sqrt(difference / size), 5e-3);
  EXPECT_LT(std::sqrt(difference / size), 4e-2);
  const int64_t row = c.hidden * 2, codes = c.hidden + 2 * 4;  // one row of four is coded
  EXPECT_EQ(coded_floor * 4 * row, plain_floor * (3 * row + codes));
}

TEST_P(Exchanges, RoundEachPartialSumOnce) {
  const Layout& layout = GetParam();
  for (const int waves : {1, 2}) {
    const ExchangeCase c{.compute = DType::bf16, .wire = DType::bf16, .waves = waves};
    const std::vector<float> wanted = tests::expected_sums(c, layout.nodes * layout.ranks_per_node,
                                                           layout.nodes, layout.chunks > 0);
    EXPECT_EQ(sums_of(run_layout(c, layout)), wanted);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, Exchanges,
                         testing::Values(Layout{1, 4, 0}, Layout{2, 2, 0}, Layout{2, 1, 1},
                                         Layout{2, 2, 1}, Layout{2, 2, 3}, Layout{2, 4, 4},
                                         Layout{4, 2, 2}, Layout{4, 1, 4}),
                         [](const auto& info) {
                           const Layout& l = info.param;
                           return "Nodes" + std::to_string(l.nodes) + "Ranks" +
                                  std::to_string(l.ranks_per_node) +
                                  (l.chunks == 0 ? "Flat" : "Chunks" + std::to_string(l.chunks));
                         });

TEST(ExchangeBytes, OneCrossingPerNode) {
  // Half of the experts of 16 on each of 2 nodes, and all of a token's in two groups of four.
  const ExchangeCase c{.tokens = 200, .num_groups = 4, .topk_group = 2, .backward = false};
  const auto sent = [&](const Layout& layout) {
    ExchangeResult all;
    for (const ExchangeResult& result : run_layout(c, layout)) {
      all.far_bytes += result.far_bytes;
      all.near_bytes += result.near_bytes;
      all.floor_bytes += result.floor_bytes;
    }
    return all;
  };
  const ExchangeResult flat = sent({2, 4, 0}), two_tier = sent({2, 4, 3});
  EXPECT_EQ(flat.floor_bytes, two_tier.floor_bytes);
  const int64_t row_bytes = c.hidden * 4, rows = two_tier.floor_bytes / (2 * row_bytes);
  EXPECT_GT(rows, 100);  // of 200 tokens, each of which has at most one remote node
  EXPECT_LT(rows, 200);
  // Each of 8 ranks tells its one peer on the other node the rows of 3 chunks, and the pairs.
  const int64_t counts = 8 * 4 * 8, route = 4 * rows;
  const int64_t pair_bytes = two_tier.far_bytes - two_tier.floor_bytes - counts - route;
  EXPECT_GE(pair_bytes, 8 * rows);
  EXPECT_LE(pair_bytes, 8 * rows * c.top_k);
  EXPECT_EQ(pair_bytes % 8, 0);
  // Two of a node's four ranks hold a group of experts: a flat row goes to up to two or four.
  EXPECT_GT(double(flat.far_bytes), 1.3 * double(two_tier.far_bytes));
}

// A row crosses in each wave that has experts for it; the least it could be is as without waves.
TEST(ExchangeBytes, WavesCrossMoreOftenThanTheFloor) {
  const auto sent = [](int waves) {
    ExchangeResult all;
    for (const ExchangeResult& result :
         run_layout({.tokens = 3000, .hidden = 256, .waves = waves}, {2, 4, 3})) {
      all.far_bytes += result.far_bytes;
      all.floor_bytes += result.floor_bytes;
    }
    return all;
  };
  const ExchangeResult whole = sent(1), waves = sent(2);
  EXPECT_EQ(waves.floor_bytes, whole.floor_bytes);
  // 4 of 16 experts lie in one half of 2 nodes with a chance of 1 - 12!8!/(16!4!), in a quarter
  // with 1 - 12!12!/(16!8!).
  const double nodes = 1 - 70.0 / 1820, quarters = 2 * (1 - 495.0 / 1820);
  EXPECT_NEAR(double(waves.far_bytes) / double(whole.far_bytes), quarters / nodes, 0.03);
  EXPECT_NEAR(double(whole.far_bytes) / double(whole.floor_bytes), 1, 0.03);
}

TEST(ExchangeBytes, NothingCrossesBetweenNodesThatAreNone) {
  for (const ExchangeResult& result : run_layout({}, {1, 4, 0})) {
    EXPECT_EQ(result.far_bytes, 0);
    EXPECT_EQ(result.floor_bytes, 0);
  }
}

TEST(ExchangeWay, WhereItIsTwoTier) {
  EXPECT_FALSE(is_two_tier("flat", 8, 4));
  EXPECT_TRUE(is_two_tier("two_tier", 8, 4));
  EXPECT_TRUE(is_two_tier("two_tier", 8, 1));
  EXPECT_FALSE(is_two_tier("two_tier", 8, 8));
  EXPECT_TRUE(is_two_tier("auto", 8, 4));
  EXPECT_FALSE(is_two_tier("auto", 8, 1));
  EXPECT_FALSE(is_two_tier("auto", 8, 8));
}

// Before it becomes codes, and on the rank that has it.
TEST(Exchange, WhatIsNotFiniteIsNamed) {
  const auto failure = [](const ExchangeCase& c, int ranks) -> std::string {
    std::string text = "none";
    const auto run = [&](Comm* comm) {
      try {
        tests::run_exchange(c, comm, false, 1);
      } catch (const NotFiniteError& error) {
        EXPECT_TRUE(comm == nullptr || comm->rank().value == ranks - 1);
        text = error.what();
        throw;
      }
    };
    try {
      if (ranks == 1)
        run(nullptr);
      else
        run_ranks(ranks, [&](Rank, Comm& comm) { run(&comm); });
    } catch (const Error&) {
    }
    return text;
  };
  ExchangeCase x{.compute = DType::bf16, .fp8 = true, .last_x = NAN};
  ExchangeCase gradient{.compute = DType::bf16, .fp8 = true, .last_gradient = -INFINITY};
  for (int ranks : {1, 2}) {
    EXPECT_EQ(failure(x, ranks),
              "the input of model.layers.3.mlp.experts has numbers that are not finite");
    EXPECT_EQ(
        failure(gradient, ranks),
        "the gradient of the output of model.layers.3.mlp.experts has numbers that are not finite");
  }
  x.last_x = gradient.last_gradient = 1e30f;
  EXPECT_EQ(failure(x, 2), "none");
  EXPECT_EQ(failure(gradient, 2), "none");
}

}  // namespace
}  // namespace strait
