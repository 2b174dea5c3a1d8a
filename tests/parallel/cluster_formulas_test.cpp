// The formulas of cluster.h against sums done by hand.
#include <gtest/gtest.h>

#include <set>

#include "core/errors.h"
#include "parallel/sim/cluster.h"

namespace strait {
namespace {

Cluster round_figures() {
  Cluster c;
  c.bf16_peak = 100;
  c.fp8_peak = 200;
  c.fp32_peak = 10;
  c.memory_bandwidth = 1000;
  c.cores = 10;
  c.exchange_cores = 2;
  c.launch_overhead = 1;
  c.dense_gemm_bf16 = 0.5;
  c.dense_gemm_fp8 = 0.25;
  c.grouped_gemm_bf16 = 0.4;
  c.grouped_gemm_fp8 = 0.2;
  c.weight_gradient_bf16 = 0.1;
  c.weight_gradient_fp8 = 0.05;
  c.weight_gradient_fp32 = 0.8;
  c.gemm_memory = 0.5;
  c.attention_forward = 0.5;
  c.attention_backward = 0.25;
  c.elementwise = 0.8;
  c.card_bandwidth = 50;
  c.card_framing = 0.1;
  c.fabric_bandwidth = 160;
  c.fabric_framing = 0.25;
  c.far_exchange = 0.8;
  c.near_exchange = 0.5;
  return c;
}

TEST(ClusterFormulas, GemmIsArithmeticThenOperands) {
  const Cluster c = round_figures();
  const GemmShape shape{10, 20, 30};  // 12000 FLOPs; A 300, B 600, C 200 elements
  EXPECT_DOUBLE_EQ(gemm_bytes(GemmKind::dense, Precision::bf16, shape), 900 * 2 + 200 * 2);
  EXPECT_DOUBLE_EQ(gemm_bytes(GemmKind::dense, Precision::fp8, shape), 900 + 200 * 2);
  EXPECT_DOUBLE_EQ(gemm_bytes(GemmKind::dense, Precision::fp32, shape), 900 * 4 + 200 * 4);
  EXPECT_DOUBLE_EQ(gemm_bytes(GemmKind::weight_gradient, Precision::fp8, shape), 900 + 200 * 8);
  EXPECT_DOUBLE_EQ(gemm_seconds(c, GemmKind::dense, Precision::bf16, shape),
                   1 + 12000 / (100 * 0.5) + 2200 / (1000 * 0.5));
  EXPECT_DOUBLE_EQ(gemm_seconds(c, GemmKind::grouped, Precision::fp8, {10, 20, 30, 3}),
                   1 + 36000 / (200 * 0.2) + 3 * 1300 / (1000 * 0.5));
  EXPECT_DOUBLE_EQ(gemm_seconds(c, GemmKind::weight_gradient, Precision::fp32, shape),
                   1 + 12000 / (10 * 0.8) + (3600 + 1600) / (1000 * 0.5));
  // FP32 without a share of its own has BF16's.
  EXPECT_DOUBLE_EQ(gemm_seconds(c, GemmKind::dense, Precision::fp32, shape),
                   1 + 12000 / (10 * 0.5) + 4400 / (1000 * 0.5));
}

TEST(ClusterFormulas, DevicesWithoutFp8ComputeInBf16) {
  Cluster c = round_figures();
  c.fp8_peak = 0;
  EXPECT_DOUBLE_EQ(peak_flops(c, Precision::fp8), 100);
  EXPECT_DOUBLE_EQ(gemm_seconds(c, GemmKind::dense, Precision::fp8, {10, 20, 30}),
                   1 + 12000 / (100 * 0.5) + 1300 / (1000 * 0.5));
}

TEST(ClusterFormulas, AttentionElementwiseAndLinks) {
  const Cluster c = round_figures();
  EXPECT_DOUBLE_EQ(attention_seconds(c, Precision::bf16, 1000, false), 1 + 1000 / (100 * 0.5));
  EXPECT_DOUBLE_EQ(attention_seconds(c, Precision::fp8, 1000, true), 1 + 1000 / (100 * 0.25));
  EXPECT_DOUBLE_EQ(attention_seconds(c, Precision::fp32, 1000, true), 1 + 1000 / (10 * 0.25));
  EXPECT_DOUBLE_EQ(elementwise_seconds(c, 4000), 1 + 4000 / (1000 * 0.8));
  EXPECT_DOUBLE_EQ(compute_share_under_exchange(c), 0.8);
  EXPECT_DOUBLE_EQ(far_message_rate(c), 45);
  EXPECT_DOUBLE_EQ(far_exchange_rate(c), 36);
  EXPECT_DOUBLE_EQ(near_message_rate(c), 120);
  EXPECT_DOUBLE_EQ(near_exchange_rate(c), 60);
}

TEST(ClusterFormulas, FiguresByKey) {
  Cluster c = round_figures();
  figure_of(c, "card_bandwidth") = 7;
  EXPECT_EQ(c.card_bandwidth, 7);
  EXPECT_THROW(figure_of(c, "nodes"), InternalError);  // not a real number
  EXPECT_THROW(figure_of(c, "card"), InternalError);
}

TEST(ClusterFormulas, TheTableIsWhole) {
  Cluster c;
  std::set<std::string> names;
  std::set<double*> values;
  for (const Field& field : table_of(&c)) {
    SCOPED_TRACE(field.name);
    EXPECT_TRUE(names.insert(field.name).second);
    const std::string doc = field.doc;
    EXPECT_GT(doc.size(), 5u);
    EXPECT_EQ(doc.back(), '.');
    const FieldValue value = field.value(&c);
    if (double* const* real = std::get_if<double*>(&value)) {
      EXPECT_TRUE(values.insert(*real).second) << "two keys for one figure";
      EXPECT_TRUE(field.sourced);
    }
  }
  EXPECT_EQ(values.size(), 32u);
}

}  // namespace
}  // namespace strait
