// A cluster's figures from synthetic measurements of a known cluster, with and without noise.
#include "parallel/sim/calibrate.h"

#include <gtest/gtest.h>

#include <random>

#include "core/errors.h"

namespace strait {
namespace {

Cluster known() {
  Cluster c;
  c.nodes = 2;
  c.ranks_per_node = 8;
  c.bf16_peak = 1000e12;
  c.fp8_peak = 2000e12;
  c.fp32_peak = 60e12;
  c.memory = 80e9;
  c.memory_bandwidth = 3e12;
  c.cores = 132;
  c.exchange_cores = 20;
  c.launch_overhead = 3e-6;
  c.dense_gemm_bf16 = 0.7;
  c.dense_gemm_fp8 = 0.8;
  c.grouped_gemm_bf16 = 0.65;
  c.grouped_gemm_fp8 = 0.75;
  c.weight_gradient_bf16 = 0.6;
  c.weight_gradient_fp8 = 0.55;
  c.dense_gemm_fp32 = 0.9;
  c.gemm_memory = 0.85;
  c.attention_forward = 0.6;
  c.attention_backward = 0.45;
  c.elementwise = 0.8;
  c.card_bandwidth = 50e9;
  c.card_latency = 8e-6;
  c.card_framing = 0.02;
  c.fabric_bandwidth = 160e9;
  c.fabric_latency = 2e-6;
  c.fabric_framing = 0.05;
  c.far_exchange = 0.9;
  c.near_exchange = 0.95;
  c.commit_latency = 90e-6;
  c.price = 2;
  return c;
}

// Figures far from the known ones; what is never fitted is the same.
Cluster wrong() {
  Cluster c = known();
  for (const char* key :
       {"dense_gemm_bf16", "dense_gemm_fp8", "grouped_gemm_bf16", "grouped_gemm_fp8",
        "weight_gradient_bf16", "weight_gradient_fp8", "dense_gemm_fp32", "gemm_memory",
        "attention_forward", "attention_backward", "elementwise", "far_exchange", "near_exchange"})
    figure_of(c, key) = 0.5;
  c.exchange_cores = 60;
  c.launch_overhead = 1e-6;
  c.card_bandwidth = 10e9;
  c.card_latency = 100e-6;
  c.fabric_bandwidth = 20e9;
  c.fabric_latency = 100e-6;
  c.commit_latency = 1e-3;
  return c;
}

std::vector<Measurement> runs_of_everything() {
  std::vector<Measurement> all;
  for (int repeat = 0; repeat < 3; ++repeat) {
    all.push_back({.what = Measured::launch});
    all.push_back({.what = Measured::commit});
    all.push_back({.what = Measured::under_exchange, .alone_seconds = 1e-3 * (repeat + 1)});
    for (const double size : {1.0, 16.0, 300.0}) {
      for (const Measured what : {Measured::far_message, Measured::near_message,
                                  Measured::far_exchange, Measured::near_exchange})
        all.push_back({.what = what, .bytes = size * 100e3});
      all.push_back({.what = Measured::elementwise, .bytes = size * 1e7});
      for (const Measured what : {Measured::attention_forward, Measured::attention_backward})
        all.push_back({.what = what, .precision = Precision::bf16, .flops = size * 1e11});
    }
    for (const GemmShape shape : {GemmShape{4096, 4096, 7168}, GemmShape{4096, 32768, 512},
                                  GemmShape{1024, 1024, 128}, GemmShape{4096, 7168, 16384}})
      for (const Precision precision : {Precision::bf16, Precision::fp8}) {
        all.push_back({.what = Measured::dense_gemm, .precision = precision, .shape = shape});
        all.push_back({.what = Measured::weight_gradient, .precision = precision, .shape = shape});
        all.push_back({.what = Measured::grouped_gemm,
                       .precision = precision,
                       .shape = {shape.m, shape.n, shape.k, 4}});
      }
    all.push_back({.what = Measured::dense_gemm,
                   .precision = Precision::fp32,
                   .shape = {512, 512, 512 * (repeat + 1)}});
  }
  return all;
}

std::vector<Measurement> measured(const Cluster& cluster, double noise, uint32_t seed = 1) {
  std::vector<Measurement> all = runs_of_everything();
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].seconds = predicted_seconds(cluster, all[i]) * std::exp(noise * normal(random));
    all[i].place = "x.csv:" + std::to_string(i + 2);
  }
  return all;
}

void expect_recovered(const Calibration& calibration, double tolerance) {
  const Cluster truth = known();
  EXPECT_EQ(calibration.figures.size(), 20u);
  for (const FittedFigure& figure : calibration.figures) {
    EXPECT_TRUE(figure.fitted) << figure.key << ": " << figure.note;
    EXPECT_NEAR(figure.value / figure_of(truth, figure.key), 1, tolerance) << figure.key;
    EXPECT_EQ(figure.value, figure_of(calibration.cluster, figure.key));
  }
}

TEST(Calibrate, ExactMeasurementsGiveTheClusterBack) {
  const Calibration calibration = calibrate(wrong(), measured(known(), 0), "x.csv");
  expect_recovered(calibration, 1e-9);
  for (const FittedFigure& figure : calibration.figures) EXPECT_LT(figure.residual, 1e-9);
  EXPECT_TRUE(calibration.passed_over.empty());
}

TEST(Calibrate, NoisyMeasurementsGiveItBackWithinTheNoise) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    const Calibration calibration = calibrate(wrong(), measured(known(), 0.02, seed), "x.csv");
    expect_recovered(calibration, 0.08);
    for (const FittedFigure& figure : calibration.figures) {
      EXPECT_LT(figure.residual, 0.05) << figure.key;
      EXPECT_LE(figure.residual, std::abs(figure.worst)) << figure.key;
      EXPECT_EQ(figure.worst_place.rfind("x.csv:", 0), 0u);
    }
  }
}

TEST(Calibrate, SourcesNameTheMeasurements) {
  const Calibration calibration = calibrate(wrong(), measured(known(), 0), "x.csv");
  EXPECT_EQ(calibration.cluster.sources.at("card_bandwidth")
                .source.rfind("measured: 9 points, residual ", 0),
            0u)
      << calibration.cluster.sources.at("card_bandwidth").source;
  EXPECT_NE(calibration.cluster.sources.at("card_bandwidth").source.find("%, x.csv"),
            std::string::npos);
  EXPECT_FALSE(calibration.cluster.sources.contains("bf16_peak"));
}

const FittedFigure& figure(const Calibration& calibration, const std::string& key) {
  for (const FittedFigure& found : calibration.figures)
    if (found.key == key) return found;
  throw std::out_of_range(key);
}

TEST(Calibrate, TooFewPointsKeepTheBase) {
  const Cluster truth = known(), base = wrong();
  std::vector<Measurement> few = {
      {.what = Measured::far_message, .bytes = 1e5},
      {.what = Measured::far_message, .bytes = 1e8},
      {.what = Measured::near_message, .bytes = 1e6},
      {.what = Measured::near_message, .bytes = 1e6},
      {.what = Measured::near_message, .bytes = 1.001e6},
      {.what = Measured::elementwise, .bytes = 1e9},
      {.what = Measured::dense_gemm, .precision = Precision::fp8, .shape = {4096, 4096, 4096}},
  };
  for (Measurement& m : few) m.seconds = predicted_seconds(truth, m);
  const Calibration calibration = calibrate(base, few, "x.csv");
  const std::vector<std::pair<std::string, std::string>> kept = {
      {"card_bandwidth", "2 points, needs 3"},
      {"card_latency", "2 points, needs 3"},
      {"fabric_bandwidth", "the sizes are too alike to tell latency from bandwidth"},
      {"fabric_latency", "the sizes are too alike to tell latency from bandwidth"},
      {"elementwise", "1 point, needs 2"},
      {"dense_gemm_fp8", "1 point, needs 2"},
  };
  EXPECT_EQ(calibration.figures.size(), kept.size());
  for (const auto& [key, why] : kept) {
    EXPECT_FALSE(figure(calibration, key).fitted) << key;
    EXPECT_EQ(figure(calibration, key).note, why);
    EXPECT_EQ(figure_of(calibration.cluster, key), figure_of(base, key));
    EXPECT_FALSE(calibration.cluster.sources.contains(key));
  }
}

// With shapes of one intensity the arithmetic's share is fitted under the base's gemm_memory.
TEST(Calibrate, AlikeShapesLeaveTheMemoryShare) {
  const Cluster truth = known();
  Cluster base = wrong();
  base.gemm_memory = truth.gemm_memory;
  base.launch_overhead = truth.launch_overhead;
  std::vector<Measurement> runs;
  for (const int64_t n : {4096, 4100, 4104, 4108})
    runs.push_back(
        {.what = Measured::dense_gemm, .precision = Precision::bf16, .shape = {4096, n, 4096}});
  for (Measurement& m : runs) m.seconds = predicted_seconds(truth, m);
  const Calibration calibration = calibrate(base, runs, "x.csv");
  EXPECT_FALSE(figure(calibration, "gemm_memory").fitted);
  EXPECT_EQ(figure(calibration, "gemm_memory").note,
            "the shapes are too alike to tell it from the arithmetic");
  EXPECT_NEAR(figure(calibration, "dense_gemm_bf16").value, truth.dense_gemm_bf16, 1e-9);
}

TEST(Calibrate, SharesAreHeldAtOne) {
  Cluster truth = known();
  truth.elementwise = 1.2;  // faster than the base's memory_bandwidth allows
  truth.gemm_memory = 1.1;
  const Calibration calibration = calibrate(wrong(), measured(truth, 0), "x.csv");
  for (const char* key : {"elementwise", "gemm_memory"}) {
    EXPECT_EQ(figure(calibration, key).value, 1) << key;
    EXPECT_EQ(figure(calibration, key).note, "held at 1, it came out above");
    EXPECT_GT(figure(calibration, key).residual, 0.01);
  }
  // The others are the best under that bound: no share next to theirs fits better.
  const std::vector<Measurement> runs = measured(truth, 0);
  const auto squares = [&](const Cluster& cluster) {
    double sum = 0;
    for (const Measurement& m : runs)
      if (m.what == Measured::dense_gemm || m.what == Measured::grouped_gemm ||
          m.what == Measured::weight_gradient) {
        const double launch = cluster.launch_overhead;
        const double miss = (predicted_seconds(cluster, m) - launch) / (m.seconds - launch) - 1;
        sum += miss * miss;
      }
    return sum;
  };
  const double best = squares(calibration.cluster);
  for (const char* key : {"dense_gemm_bf16", "grouped_gemm_fp8", "weight_gradient_bf16"}) {
    EXPECT_EQ(figure(calibration, key).note, "");
    for (const double factor : {0.999, 1.001}) {
      Cluster other = calibration.cluster;
      figure_of(other, key) *= factor;
      EXPECT_GT(squares(other), best) << key;
    }
  }
}

TEST(Calibrate, ImpossibleMeasurementsAreNamed) {
  std::vector<Measurement> runs = measured(known(), 0);
  runs.push_back(
      {.what = Measured::elementwise, .bytes = 1e6, .seconds = 1e-7, .place = "x.csv:99"});
  const Calibration calibration = calibrate(wrong(), runs, "x.csv");
  ASSERT_EQ(calibration.passed_over.size(), 1u);
  EXPECT_EQ(calibration.passed_over[0].rfind(
                "x.csv:99: elementwise: 1e-07 s is not longer than launch_overhead = ", 0),
            0u)
      << calibration.passed_over[0];
  EXPECT_NEAR(figure(calibration, "elementwise").value, 0.8, 1e-9);
}

TEST(Calibrate, Fp8NeedsAPeak) {
  Cluster base = wrong();
  base.fp8_peak = 0;
  const Calibration calibration = calibrate(base, measured(known(), 0), "x.csv");
  EXPECT_EQ(figure(calibration, "dense_gemm_fp8").note, "the base has no fp8_peak");
  EXPECT_NEAR(figure(calibration, "dense_gemm_bf16").value, 0.7, 1e-9);
}

}  // namespace
}  // namespace strait
