// launch/run. Without mpirun around it this is a GoogleTest program that starts itself as ranks;
// under mpirun it is a rank that needs no MPI: `show ARGS...` prints them, `end CODE...` ends with
// the code of its rank (0 to 255, or `kill`), `stop` ends with 143 on SIGUSR1.
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "mpi_ranks.h"
#include "parallel/comm/mpi.h"

namespace strait::tests {
namespace {

int run_rank(const std::vector<std::string>& arguments) {
  const char* number = std::getenv("OMPI_COMM_WORLD_RANK");
  const int rank = std::atoi(number ? number : "0");
  if (arguments.at(0) == "show") {
    std::string line = "<rank " + std::to_string(rank);
    for (const std::string& argument : arguments) line += " [" + argument + "]";
    std::puts((line + ">").c_str());
    end_rank(0);
  }
  if (arguments.at(0) == "stop") {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGUSR1);
    sigprocmask(SIG_BLOCK, &stop, nullptr);
    std::puts("<ready>");
    std::fflush(stdout);
    int signal = 0;
    sigwait(&stop, &signal);
    std::puts("<saved>");
    if (arguments.size() > 1) pause();
    end_rank(143);
  }
  const std::string& code = arguments.at(static_cast<size_t>(rank) + 1);
  if (code == "kill") {
    sleep(1);  // the others have ended before
    raise(SIGKILL);
  }
  end_rank(std::atoi(code.c_str()));
}

struct BadUsage {
  std::vector<std::string> arguments;
  std::string message;
};

TEST(LaunchRun, BadUsageIsToldWithCode2) {
  const std::vector<BadUsage> cases{
      {{}, "expected -n RANKS first, got 'nothing'"},
      {{"train", "x.yaml"}, "expected -n RANKS first, got 'train'"},
      {{"-n"}, "-n needs a number of ranks"},
      {{"-n", "0", "train"}, "from 1 to 9999, got '0'"},
      {{"-n", "-4", "train"}, "from 1 to 9999, got '-4'"},
      {{"-n", "2x", "train"}, "from 1 to 9999, got '2x'"},
      {{"-n", "010", "train"}, "from 1 to 9999, got '010'"},
      {{"-n", "2"}, "nothing to run"},
  };
  for (const BadUsage& bad : cases) {
    MpiRanks run(bad.arguments);
    EXPECT_EQ(run.code(), 2);
    EXPECT_TRUE(run.says("launch/run: ") && run.says(bad.message)) << run.output();
  }
}

TEST(LaunchRun, NamesTheProgramThatIsMissing) {
  MpiRanks run({"-n", "2", "train"}, {{"STRAIT", "/nowhere/strait"}});
  EXPECT_EQ(run.code(), 2);
  EXPECT_TRUE(run.says("STRAIT=/nowhere/strait is not a program")) << run.output();
}

TEST(LaunchRun, PassesArgumentsAndPrintsThePlainLine) {
  MpiRanks run({"-n", "2", "show", "a b", "", "$x'"});
  EXPECT_EQ(run.code(), 0) << run.output();
  EXPECT_TRUE(run.says("<rank 0 [show] [a b] [] [$x']>")) << run.output();
  EXPECT_TRUE(run.says("<rank 1 [show] [a b] [] [$x']>")) << run.output();
  EXPECT_TRUE(run.says("launch/run: mpirun -np 2 ")) << run.output();
}

TEST(LaunchRun, ReturnsTheMostTellingCode) {
  const std::vector<std::pair<std::vector<std::string>, int>> cases{
      {{"4", "3", "4"}, 3}, {{"143", "143", "0"}, 143}, {{"4", "4", "kill"}, 4}, {{"kill"}, 137}};
  for (const auto& [codes, expected] : cases) {
    std::vector<std::string> arguments{"-n", std::to_string(codes.size()), "end"};
    arguments.insert(arguments.end(), codes.begin(), codes.end());
    MpiRanks run(arguments);
    EXPECT_EQ(run.code(), expected) << run.output();
  }
}

TEST(LaunchRun, FirstSignalAsksTheRanksToStop) {
  for (const int signal : {SIGTERM, SIGINT}) {
    MpiRanks run({"-n", "2", "stop"});
    run.wait_for_output("<ready>", 2);
    run.send_signal(signal);
    EXPECT_EQ(run.code(), 143) << run.output();
    EXPECT_TRUE(run.says("<saved>")) << run.output();
  }
}

TEST(LaunchRun, SecondSignalEndsThem) {
  MpiRanks run({"-n", "2", "stop", "never"});
  run.wait_for_output("<ready>", 2);
  run.send_signal(SIGTERM);
  run.wait_for_output("<saved>", 2);
  run.send_signal(SIGTERM);
  EXPECT_NE(run.code(), 0) << run.output();
}

}  // namespace
}  // namespace strait::tests

int main(int argc, char** argv) {
  if (strait::under_mpirun()) return strait::tests::run_rank({argv + 1, argv + argc});
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
