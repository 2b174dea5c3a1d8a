// `strait cluster` from its options to what it prints and writes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <sstream>

#include "core/errors.h"
#include "launch/commands/cluster.h"
#include "recipes/cluster.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

const std::string kMeasurements =
    STRAIT_SOURCE_DIR "/recipes/clusters/measurements/deepgemm-h800.csv";

class ClusterCommand : public testing::Test {
 protected:
  ClusterCommand()
      : folder_(fs::temp_directory_path() /
                ("strait_cluster_command_" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
  }
  ~ClusterCommand() override { fs::remove_all(folder_); }

  static std::string printed(const std::function<int()>& command) {
    testing::internal::CaptureStdout();
    EXPECT_EQ(command(), 0);
    return testing::internal::GetCapturedStdout();
  }

  const fs::path folder_;
};

TEST_F(ClusterCommand, ShowsEveryFigureWithItsSource) {
  const std::string table = printed([] { return run_cluster_show({.cluster = "h800-2048"}); });
  const Cluster cluster = load_cluster("h800-2048");
  std::istringstream lines(table);
  size_t found = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto source = cluster.sources.find(line.substr(0, line.find(' ')));
    if (source == cluster.sources.end()) continue;
    ++found;
    EXPECT_NE(line.find(" " + source->second.text + "  " + source->second.source),
              std::string::npos)
        << line;
  }
  EXPECT_EQ(found, cluster.sources.size());
  const std::string json =
      printed([] { return run_cluster_show({.cluster = "h800-2048", .json = true}); });
  EXPECT_NE(
      json.find(R"("card_bandwidth":{"value":50000000000.0,"unit":"bytes/s","text":"50 GB/s")"),
      std::string::npos)
      << json;
}

TEST_F(ClusterCommand, ListsTheNames) {
  const std::string list = printed([] { return run_cluster_list(false); });
  for (const std::string& name : cluster_names())
    EXPECT_NE(list.find(name + " "), std::string::npos);
}

TEST_F(ClusterCommand, CalibrateWritesAClusterThatLoads) {
  const ClusterCalibrateOptions options = {
      .measurements = kMeasurements, .base = "gb200", .out = (folder_ / "mine.yaml").string()};
  const std::string table = printed([&] { return run_cluster_calibrate(options); });
  EXPECT_NE(table.find("grouped_gemm_fp8"), std::string::npos) << table;
  EXPECT_NE(table.find(options.out + ": written; what has no measurement is gb200's"),
            std::string::npos)
      << table;
  const Cluster mine = load_cluster(options.out), base = load_cluster("gb200");
  EXPECT_EQ(mine.name, "mine");
  EXPECT_EQ(mine.sources.at("dense_gemm_fp8").source.rfind("measured: 6 points, residual ", 0), 0u);
  EXPECT_NE(mine.sources.at("dense_gemm_fp8").source.find("deepgemm-h800.csv"), std::string::npos);
  EXPECT_NE(mine.dense_gemm_fp8, base.dense_gemm_fp8);
  EXPECT_EQ(mine.card_bandwidth, base.card_bandwidth);
  EXPECT_EQ(mine.sources.at("card_bandwidth").source, base.sources.at("card_bandwidth").source);

  EXPECT_THROW(run_cluster_calibrate(options), RecipeError);  // there already
  ClusterCalibrateOptions again = options;
  again.replace = again.json = true;
  EXPECT_NE(printed([&] { return run_cluster_calibrate(again); }).find(R"("fitted":true)"),
            std::string::npos);
}

TEST_F(ClusterCommand, BadInputIsOneError) {
  EXPECT_THROW(run_cluster_show({.cluster = "nowhere"}), RecipeError);
  const std::string out = (folder_ / "x.yaml").string();
  EXPECT_THROW(run_cluster_calibrate({.measurements = "/nowhere.csv", .base = "gb200", .out = out}),
               DataError);
  EXPECT_THROW(run_cluster_calibrate(
                   {.measurements = kMeasurements, .base = "gb200", .out = "/nowhere/x.yaml"}),
               DataError);
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace strait
