// What several ranks of the strait binary say to bad input and to the loss of one: once, and with
// the right exit code of launch/run; and how they go on. As bad_input_test.cpp.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>

#include "tests/launch/bad_input_lab.h"
#include "tests/parallel/mpi_ranks.h"

namespace strait::tests {
namespace {

namespace fs = std::filesystem;
using Settings = std::vector<std::pair<std::string, std::string>>;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A lab that is also the folder in which ranks start.
class BadInputMpi : public testing::Test {
 protected:
  void SetUp() override { fs::current_path(lab_.folder()); }
  void TearDown() override { fs::current_path("/"); }

  // launch/run -n ranks strait ...
  static std::unique_ptr<MpiRanks> start(int ranks, const std::vector<std::string>& arguments,
                                         Settings settings = {}) {
    std::vector<std::string> all = {"-n", std::to_string(ranks)};
    all.insert(all.end(), arguments.begin(), arguments.end());
    settings.insert(settings.begin(), {"STRAIT", STRAIT_BINARY});
    return std::make_unique<MpiRanks>(all, settings);
  }

  // The lines "strait: ..." that all ranks have printed.
  static std::vector<std::string> messages(const std::string& output) {
    std::vector<std::string> found;
    std::istringstream lines(output);
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("strait: ")) found.push_back(line.substr(8));
    return found;
  }

  static void expect(int ranks, const std::vector<std::string>& arguments, int code,
                     const std::string& message, const Settings& settings = {}) {
    const auto run = start(ranks, arguments, settings);
    EXPECT_EQ(run->code(), code) << run->output();
    const std::vector<std::string> said = messages(run->output());
    ASSERT_EQ(said.size(), 1U) << run->output();
    EXPECT_TRUE(std::regex_match(said[0], std::regex(message))) << said[0];
  }

  // The process of a rank that runs in this folder.
  pid_t process_of_rank(int rank) const {
    const std::string wanted = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
    for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
      std::error_code error;
      if (fs::read_symlink(entry.path() / "cwd", error) != fs::canonical(lab_.folder())) continue;
      const std::string environment = std::string(1, '\0') + read(entry.path() / "environ");
      if (environment.find(std::string(1, '\0') + wanted + std::string(1, '\0')) !=
          std::string::npos)
        return static_cast<pid_t>(std::stol(entry.path().filename().string()));
    }
    ADD_FAILURE() << "no rank " << rank;
    return 0;
  }

  Lab lab_;
};

TEST_F(BadInputMpi, IsToldOnce) {
  expect(2, {"train", "tiny.yaml", "--dryrun"}, 2, "unknown option '--dryrun'; did you mean .*");
  expect(2, {"export", "--from", "runs/tiny", "--to", "new"}, 2,
         "this is the work of one process, but mpirun has started 2; start it without mpirun");
  expect(3, train_new(), 2,
         "tiny.yaml:20: train.global_batch: 4 sequences do not split over 3 ranks with micro_batch "
         "= 1; the nearest that do: 3 or 6");
  expect(2, train_new({"data.corpus=none"}), 3, "none: is not there; .*");
  EXPECT_FALSE(fs::exists("new"));
  EXPECT_FALSE(fs::exists("runs/new"));
}

TEST_F(BadInputMpi, NumbersThatAreNotFinite) {
  expect(2,
         train_new({"schedule.peak_lr=1000", "optimizer.grad_clip_norm=0",
                    "model.initializer_range=1", "train.steps=40", "train.save_every=0"}),
         5, "step \\d+: the loss or a gradient is not finite; nothing was updated");
  EXPECT_TRUE(fs::is_empty("runs/new/checkpoints"));
  std::vector<std::string> in_fp8 = {"schedule.peak_lr=1000", "optimizer.grad_clip_norm=0",
                                     "model.initializer_range=1", "train.steps=40",
                                     "train.save_every=0"};
  in_fp8.insert(in_fp8.end(), kFp8.begin(), kFp8.end());
  expect(2, train_new(in_fp8), 5,
         "rank \\d \\(.*\\) at step (\\d+): step \\1: .* of model\\.layers\\.\\d\\..* has numbers "
         "that are not finite \\(.* l\\d\\)");
  EXPECT_TRUE(fs::is_empty("runs/new/checkpoints"));
}

// Rank 1 may write less than its shard. (Shared memory of MPI would be a large file, too.)
TEST_F(BadInputMpi, DiskFullOnOneRank) {
  std::ofstream("limited") << "#!/bin/bash\n[ $OMPI_COMM_WORLD_RANK = 0 ] || ulimit -f 40\nexec "
                           << STRAIT_BINARY << " \"$@\"\n";
  fs::permissions("limited", fs::perms::owner_all);
  const auto before = lab_.snapshot();
  expect(2, {"train", "tiny.yaml", "--set", "train.steps=6"}, 3,
         "rank 1: runs/tiny/checkpoints/step-00000006.partial/shard-00001.h5: writing /.* failed: "
         "File too large",
         {{"STRAIT", lab_.path("limited")}, {"OMPI_MCA_btl", "self,tcp"}});
  const auto after = lab_.snapshot();
  for (const auto& [path, content] : before)
    if (path.find("checkpoints") != std::string::npos) {
      EXPECT_TRUE(after.contains(path) && after.at(path) == content) << path;
    }
  EXPECT_FALSE(fs::exists("runs/tiny/checkpoints/step-00000006.partial"));
  EXPECT_EQ(start(2, {"train", "tiny.yaml", "--set", "train.steps=6"})->code(), 0);
}

// The others stop and say which (one that hangs is ended by the test's limit); what was saved is
// whole.
TEST_F(BadInputMpi, KilledRank) {
  for (const int victim : {2, 0}) {
    const auto run =
        start(3, train_new({"train.global_batch=3", "train.steps=1000000", "train.save_every=20"}));
    run->wait_for_output("saved ", 1);
    ASSERT_TRUE(run->says("saved ")) << run->output();
    const auto killed = std::chrono::steady_clock::now();
    const pid_t process = process_of_rank(victim);
    ASSERT_GT(process, 0);
    kill(process, SIGKILL);
    EXPECT_EQ(run->code(), 4) << run->output();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - killed;
    std::printf("the others had stopped after %.1f s\n", seconds.count());
    const std::vector<std::string> said = messages(run->output());
    ASSERT_EQ(said.size(), 1U) << run->output();
    EXPECT_TRUE(
        std::regex_match(said[0], std::regex("lost rank " + std::to_string(victim) +
                                             " \\(.*\\) .*: its connection "
                                             "closed; rank \\d \\(.*\\) was at step \\d+, .*")))
        << said[0];
    Strait text({"eval", "--model", "runs/new", "--text", "text.txt"}, {.folder = lab_.folder()});
    EXPECT_EQ(text.code(), 0) << text.errors();
  }
}

// What tells a run's outcome: its last checkpoint, and of metrics.jsonl what does not depend on
// time.
std::map<std::string, std::string> outcome(const fs::path& run, const std::string& last) {
  std::map<std::string, std::string> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(run / "checkpoints" / last))
    found[entry.path().filename().string()] = read(entry.path());
  std::istringstream lines(read(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    found["metrics"] += line.substr(0, line.find("\"tokens\"")) + "\n";
  return found;
}

// Ranks are killed and the run is asked to stop; the same command goes on each time, and the end is
// that of a run that nothing happened to.
TEST_F(BadInputMpi, InterruptedRunsGoOnBitForBit) {
  const std::vector<std::string> command =
      train_new({"parallel.expert=2", "train.precision=bf16", "train.steps=200",
                 "train.save_every=20", "train.eval_every=80"});
  EXPECT_EQ(start(2, command)->code(), 0);
  const auto whole = outcome("runs/new", "step-00000200");
  EXPECT_EQ(whole.size(), 4U) << "manifest, two shards and metrics";
  fs::remove_all("runs/new");
  for (const int victim : {1, 0, -1}) {
    const auto run = start(2, command);
    run->wait_for_output("saved ", 2);
    if (victim >= 0) {
      kill(process_of_rank(victim), SIGKILL);
      EXPECT_EQ(run->code(), 4) << run->output();
    } else {
      run->send_signal(SIGTERM);  // which launch/run turns into SIGUSR1 to mpirun
      EXPECT_EQ(run->code(), 143) << run->output();
      EXPECT_EQ(messages(run->output()).size(), 0U) << run->output();
    }
    EXPECT_FALSE(fs::exists("runs/new/checkpoints/step-00000200")) << "came too late to interrupt";
  }
  const auto last = start(2, command);
  EXPECT_EQ(last->code(), 0) << last->output();
  EXPECT_TRUE(last->says("resumed from")) << last->output();
  const auto resumed = outcome("runs/new", "step-00000200");
  for (const auto& [name, content] : whole)
    EXPECT_TRUE(resumed.contains(name) && resumed.at(name) == content) << name << " differs";
}

}  // namespace
}  // namespace strait::tests
