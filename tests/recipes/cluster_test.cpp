// Cluster files: what they say, what a bad one is told, and that those in the repository are whole.
#include "recipes/cluster.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/errors.h"
#include "parallel/sim/calibrate.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

const std::string kWhole =
    "description: two nodes\n"                                     // 1
    "nodes: {value: 2, source: a}\n"                               // 2
    "ranks_per_node: {value: 4, source: a}\n"                      // 3
    "bf16_peak: {value: 100 TFLOP/s, source: a}\n"                 // 4
    "fp32_peak: {value: 50 TFLOP/s, source: a}\n"                  // 5
    "memory: {value: 80 GB, source: a}\n"                          // 6
    "memory_bandwidth: {value: 2 TB/s, source: a}\n"               // 7
    "cores: {value: 100, source: a}\n"                             // 8
    "exchange_cores: {value: 20, source: a}\n"                     // 9
    "launch_overhead: {value: 2 us, source: a}\n"                  // 10
    "dense_gemm_bf16: {value: 0.8, source: a}\n"                   // 11
    "grouped_gemm_bf16: {value: 0.7, source: a}\n"                 // 12
    "weight_gradient_bf16: {value: 0.6, source: a}\n"              // 13
    "gemm_memory: {value: 0.5, source: a}\n"                       // 14
    "attention_forward: {value: 0.5, source: a}\n"                 // 15
    "attention_backward: {value: 0.4, source: a}\n"                // 16
    "elementwise: {value: 0.8, source: a}\n"                       // 17
    "card_bandwidth: {value: 50 GB/s, source: \"the b, p. 3\"}\n"  // 18
    "card_latency: {value: 4 us, source: a}\n"                     // 19
    "card_framing: {value: 0.01, source: a}\n"                     // 20
    "fabric_bandwidth: {value: 160 GB/s, source: a}\n"             // 21
    "fabric_latency: {value: 3 us, source: a}\n"                   // 22
    "fabric_framing: {value: 0, source: a}\n"                      // 23
    "far_exchange: {value: 0.9, source: a}\n"                      // 24
    "near_exchange: {value: 0.95, source: a}\n"                    // 25
    "commit_latency: {value: 1 ms, source: a}\n"                   // 26
    "price: {value: 2 USD/h, source: a}\n";                        // 27

std::string changed(const std::string& from, const std::string& to) {
  std::string text = kWhole;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string problems_of(const std::string& text) {
  try {
    read_cluster(text, "x.yaml");
  } catch (const RecipeError& error) {
    return error.what();
  }
  return "loaded";
}

TEST(Cluster, ReadsFiguresInBaseUnits) {
  const Cluster cluster = read_cluster(kWhole, "clusters/small.yaml");
  EXPECT_EQ(cluster.name, "small");
  EXPECT_EQ(cluster.description, "two nodes");
  EXPECT_EQ(cluster.ranks(), 8);
  EXPECT_EQ(cluster.fp8_peak, 0);
  EXPECT_DOUBLE_EQ(cluster.card_bandwidth, 50e9);
  EXPECT_DOUBLE_EQ(cluster.card_latency, 4e-6);
  EXPECT_DOUBLE_EQ(cluster.price, 2);
  const FigureSource& source = cluster.sources.at("card_bandwidth");
  EXPECT_EQ(source.text, "50 GB/s");
  EXPECT_EQ(source.source, "the b, p. 3");
  EXPECT_EQ(source.place, "clusters/small.yaml:18");
}

struct Case {
  std::string text, problems;
};

TEST(Cluster, EveryWrongFigureIsToldWhatWorks) {
  const std::vector<Case> cases = {
      {changed("50 GB/s", "50 GB"),
       "x.yaml:18: card_bandwidth: '50 GB' is not a bandwidth; write for example '50 GB/s'"},
      {changed("50 GB/s", "50"),
       "x.yaml:18: card_bandwidth: '50' has no unit; write for example '50 GB/s'"},
      {changed("50 GB/s", "50 Gb/s"),
       "x.yaml:18: card_bandwidth: '50 Gb/s' may mean bits or bytes; write '50 Gbit/s' or '50 "
       "GB/s'"},
      {changed("50 GB/s", "0 GB/s"),
       "x.yaml:18: card_bandwidth: 0 GB/s is out of range (above 0, at most 1e+18 bytes/s)"},
      {changed("0.8, source: a}\ngrouped", "1.2, source: a}\ngrouped"),
       "x.yaml:11: dense_gemm_bf16: 1.2 is out of range (above 0, at most 1)"},
      {changed("value: 2, source", "value: 2.5, source"),
       "x.yaml:2: nodes: expected a whole number, got '2.5'"},
      {changed("value: 2, source", "value: 0, source"),
       "x.yaml:2: nodes: 0 is out of range (at least 1, at most 1048576)"},
      {changed("{value: 50 GB/s, source: \"the b, p. 3\"}", "50 GB/s"),
       "x.yaml:18: card_bandwidth: expected a value and its source, got '50 GB/s'; write for "
       "example {value: 50 GB/s, source: \"where it is from\"}"},
      {changed("\"the b, p. 3\"", "\" \""),
       "x.yaml:18: card_bandwidth: its source is empty; say where the figure is from"},
      {changed(", source: \"the b, p. 3\"", ""),
       "x.yaml:18: card_bandwidth: has no source; say where the figure is from"},
      {changed("value: 50 GB/s, ", ""),
       "x.yaml:18: card_bandwidth: has no value; write for example value: 50 GB/s"},
      {changed("value: 50 GB/s, ", "value: [50], "),
       "x.yaml:18: card_bandwidth: expected a value like '50 GB/s', got a list"},
      {changed("value: 50 GB/s, ", "value: 50 GB/s, unit: GB/s, "),
       "x.yaml:18: card_bandwidth: unknown key 'unit'; a figure has value and source"},
      {changed("value: 50 GB/s, ", "value: 50 GB/s, value: 60 GB/s, "),
       "x.yaml:18: key 'value' is here a second time; the first is at x.yaml:18"},
      {kWhole + "card_bandwith: {value: 1 GB/s, source: a}\n",
       "x.yaml:28: unknown key 'card_bandwith'; did you mean 'card_bandwidth'?"},
      {kWhole + "price: {value: 3 USD/h, source: a}\n",
       "x.yaml:28: key 'price' is here a second time; the first is at x.yaml:27"},
      {changed("card_latency: {value: 4 us, source: a}\n", ""),
       "x.yaml: missing key 'card_latency': Time of a message without bytes between nodes. Write "
       "for example card_latency: {value: 5 us, source: \"...\"}"},
      {changed("nodes: {value: 2, source: a}\n", ""),
       "x.yaml: missing key 'nodes': Nodes (hosts). Write for example nodes: {value: 8, source: "
       "\"...\"}"},
      {changed("exchange_cores: {value: 20", "exchange_cores: {value: 100"),
       "x.yaml:9: exchange_cores: 100 leave nothing of cores = 100 to compute"},
      {kWhole + "dense_gemm_fp8: {value: 0.8, source: a}\n",
       "x.yaml:28: dense_gemm_fp8: is a share of fp8_peak, which is not said; say it, or leave "
       "this out"},
      {"- nodes\n",
       "x.yaml:1: expected a mapping with figures like 'nodes: {value: 4, source: ...}', got a "
       "list"},
      {changed("nodes: {value: 2", "nodes: &n {value: 2"),
       "x.yaml:2: a cluster has no anchors (&name); use extends or say it again"},
  };
  for (const Case& bad : cases) EXPECT_EQ(problems_of(bad.text), bad.problems);
}

TEST(Cluster, Fp8SharesGoWithThePeak) {
  EXPECT_EQ(
      problems_of(kWhole + "fp8_peak: {value: 200 TFLOP/s, source: a}\n"
                           "grouped_gemm_fp8: {value: 0, source: a}\n"),
      "x.yaml: dense_gemm_fp8: missing: fp8_peak is said. Large GEMM, arithmetic alone: share "
      "of the FP8 peak. Goes with fp8_peak.\n"
      "x.yaml:29: grouped_gemm_fp8: 0 is out of range (above 0, at most 1)\n"
      "x.yaml: weight_gradient_fp8: missing: fp8_peak is said. Weight-gradient GEMM, "
      "arithmetic alone: share of the FP8 peak. Goes with fp8_peak.");
}

TEST(Cluster, AllProblemsAtOnce) {
  std::string text = changed("50 GB/s", "50 GB");
  text.replace(text.find("0.01"), 4, "x   ");
  text += "nodez: 3\n";
  EXPECT_EQ(problems_of(text),
            "x.yaml:18: card_bandwidth: '50 GB' is not a bandwidth; write for example '50 GB/s'\n"
            "x.yaml:20: card_framing: 'x' is not a plain number; write for example '0.85'\n"
            "x.yaml:28: unknown key 'nodez'; did you mean 'nodes'?");
}

// Whatever the bytes are, the answer is a cluster or a RecipeError.
TEST(Cluster, DamagedTextEndsInAnAnswer) {
  uint64_t state = 1;
  const auto next = [&state](size_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % below;
  };
  const std::string bytes = ":-{}[]&*!|>'\"%@`#?,\n\t \\0eGaZ/\x80\xff";
  int refused = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string text = kWhole;
    for (size_t i = 0, changes = 1 + next(4); i < changes; ++i)
      text[next(text.size())] = bytes[next(bytes.size())];
    refused += problems_of(text) == "loaded" ? 0 : 1;
  }
  EXPECT_GT(refused, 300);
}

// A folder of cluster files, removed at the end.
class ClusterFiles : public testing::Test {
 protected:
  ClusterFiles()
      : folder_(fs::temp_directory_path() / ("strait_cluster_test_" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
  }
  ~ClusterFiles() override { fs::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  const fs::path folder_;
};

TEST_F(ClusterFiles, ExtendsReplacesWholeFigures) {
  write("base.yaml", kWhole);
  const std::string path = write("top.yaml",
                                 "extends: base.yaml\n"
                                 "card_bandwidth: {value: 25 GB/s, source: half}\n");
  const Cluster cluster = load_cluster(path);
  EXPECT_EQ(cluster.name, "top");
  EXPECT_DOUBLE_EQ(cluster.card_bandwidth, 25e9);
  EXPECT_EQ(cluster.sources.at("card_bandwidth").source, "half");
  EXPECT_DOUBLE_EQ(cluster.memory, 80e9);
  // The base's source is not the new value's.
  const std::string without = write("without.yaml",
                                    "extends: base.yaml\n"
                                    "card_bandwidth: {value: 25 GB/s}\n");
  try {
    load_cluster(without);
    ADD_FAILURE() << "loaded";
  } catch (const RecipeError& error) {
    EXPECT_EQ(error.what(),
              without + ":2: card_bandwidth: has no source; say where the figure is from");
  }
}

TEST_F(ClusterFiles, WhatIsWrittenLoadsBack) {
  for (const std::string& name : cluster_names()) {
    Cluster cluster = load_cluster(name);
    cluster.card_bandwidth *= 0.123456;  // as a fit changes it
    const std::string text = to_yaml(cluster);
    const Cluster again = read_cluster(text, "again.yaml");
    EXPECT_EQ(to_yaml(again), text);
    EXPECT_EQ(again.name, cluster.name);
    EXPECT_EQ(again.nodes, cluster.nodes);
    EXPECT_NEAR(again.card_bandwidth / cluster.card_bandwidth, 1, 1e-5);
    for (const Field& field : table_of(&cluster))
      if (field.sourced && std::string(field.name) != "card_bandwidth" &&
          std::holds_alternative<double*>(field.value(&cluster))) {
        EXPECT_EQ(figure_of(again, field.name), figure_of(cluster, field.name)) << field.name;
      }
    for (const auto& [key, source] : cluster.sources)
      EXPECT_EQ(again.sources.at(key).source, source.source);
  }
}

TEST(ClusterFile, UnknownNamesAreToldTheClosest) {
  try {
    load_cluster("h800-204");
    ADD_FAILURE() << "loaded";
  } catch (const RecipeError& error) {
    EXPECT_EQ(
        std::string(error.what()).rfind("no cluster 'h800-204', did you mean 'h800-2048'?", 0), 0u)
        << error.what();
  }
}

TEST(ShippedClusters, AreWholeAndSaySources) {
  EXPECT_EQ(cluster_names(), (std::vector<std::string>{"a800-pcie", "gb200", "h100-2048",
                                                       "h800-2048", "netlab", "rtx4090-ethernet"}));
  for (const std::string& name : cluster_names()) {
    SCOPED_TRACE(name);
    const Cluster cluster = load_cluster(name);
    EXPECT_EQ(cluster.name, name);
    EXPECT_FALSE(cluster.description.empty());
    for (const Field& field : table_of(&cluster)) {
      if (!field.required) continue;
      EXPECT_GE(cluster.sources.at(field.name).source.size(), 10u) << field.name;
    }
    EXPECT_LE(far_exchange_rate(cluster), cluster.card_bandwidth);
    EXPECT_LE(near_exchange_rate(cluster), cluster.fabric_bandwidth);
    EXPECT_GT(cluster.fabric_bandwidth, cluster.card_bandwidth);
  }
}

TEST(ShippedClusters, H800HasThePublishedFigures) {
  const Cluster h800 = load_cluster("h800-2048");
  EXPECT_EQ(h800.ranks(), 2048);
  EXPECT_DOUBLE_EQ(h800.bf16_peak, 989.5e12);
  EXPECT_DOUBLE_EQ(h800.fp8_peak, 1979e12);
  EXPECT_NEAR(compute_share_under_exchange(h800), 112.0 / 132, 1e-12);
  EXPECT_DOUBLE_EQ(h800.fabric_bandwidth, 160e9);
  EXPECT_DOUBLE_EQ(h800.card_bandwidth, 50e9);
  const Cluster h100 = load_cluster("h100-2048");
  EXPECT_DOUBLE_EQ(h100.fabric_bandwidth / h800.fabric_bandwidth, 450.0 / 200);
  EXPECT_EQ(h100.card_bandwidth, h800.card_bandwidth);
  EXPECT_EQ(h100.dense_gemm_fp8, h800.dense_gemm_fp8);
}

// The GEMM shares of h800-2048.yaml are the fit of the table they name.
TEST(ShippedClusters, H800IsTheFitOfDeepGemmsTable) {
  const Cluster h800 = load_cluster("h800-2048");
  Cluster other = h800;
  other.dense_gemm_fp8 = other.grouped_gemm_fp8 = other.weight_gradient_fp8 = 0.5;
  other.gemm_memory = 0.5;
  const auto measurements =
      load_measurements(STRAIT_RECIPES "/clusters/measurements/deepgemm-h800.csv");
  const Calibration fit = calibrate(other, measurements, "deepgemm-h800.csv");
  ASSERT_EQ(fit.figures.size(), 4u);
  for (const FittedFigure& figure : fit.figures) {
    EXPECT_TRUE(figure.fitted) << figure.key;
    EXPECT_NEAR(figure.value, figure_of(h800, figure.key), 5e-5) << figure.key;
    EXPECT_LT(figure.residual, 0.062) << figure.key;
  }
}

}  // namespace
}  // namespace strait
