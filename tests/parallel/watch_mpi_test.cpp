// Real ranks that die. Without arguments this is a GoogleTest program that starts itself as several
// ranks with launch/run; with arguments it is one of those ranks: what rank VICTIM does, and to
// whom it happens.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "core/errors.h"
#include "mpi_ranks.h"
#include "parallel/comm/exchange.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/watch.h"

namespace strait {
namespace {

using std::chrono::milliseconds;

// ---- one rank ----

// As launch/ does it.
int run_rank(const std::string& what, int victim) {
  std::unique_ptr<Comm> comm = mpi_comm();
  const int rank = comm->rank().value;
  Watch watch(*comm, {.heartbeat = milliseconds(20), .silence = milliseconds(1500)});
  const Channel far = comm->channel(LinkLane::far, comm->world());
  try {
    watch.set_task(17, rank == victim ? "experts.F m0 l3" : "combine.F m0 l3");
    far.enqueue(barrier(far)).wait();
    std::vector<std::byte> data(what == "send-short" && rank == victim ? 480 : 512);
    if (what == "send-long" && rank == victim) data.resize(700);
    Exchange messages;
    const int next = (victim + 1) % comm->size();
    if (rank == victim) {
      std::this_thread::sleep_for(milliseconds(500));  // a few heartbeats
      if (what == "kill") raise(SIGKILL);
      if (what == "stop") raise(SIGSTOP);
      if (what == "throw") throw DataError("the disk is full");
      messages.sends.push_back({.to = next, .data = data});
    } else if (rank == next && what.starts_with("send")) {
      messages.receives.push_back({.from = victim, .data = data});
    }
    far.enqueue(exchange(far, messages)).wait();
    far.enqueue(barrier(far)).wait();
    watch.close();
    comm.reset();
    return 0;
  } catch (const std::exception& error) {
    const bool prints = watch.abandon(error.what());
    std::printf("<rank %d%s: %s>\n", rank, prints ? " prints" : "", error.what());
    tests::end_rank(dynamic_cast<const CommError*>(&error) ? 4 : 3);
  }
}

// ---- the tests ----

struct Outcome {
  int code = -1;
  std::string output;

  bool says(const std::string& text) const { return output.find(text) != std::string::npos; }
};

Outcome start(int ranks, const std::string& what, int victim,
              const std::vector<std::pair<std::string, std::string>>& settings = {}) {
  tests::MpiRanks run({"-n", std::to_string(ranks), what, std::to_string(victim)}, settings);
  const int code = run.code();
  return {code, run.output()};
}

// All ranks but the victim have reported the loss themselves, and one of them is to print it.
void expect_loss(const Outcome& outcome, int ranks, int victim, const std::string& reason) {
  EXPECT_EQ(outcome.code, 4) << outcome.output;
  for (int rank = 0; rank < ranks; ++rank) {
    if (rank == victim) continue;
    const bool prints = rank == (victim == 0 ? 1 : 0);
    const std::string start = "<rank " + std::to_string(rank) + (prints ? " prints" : "") +
                              ": lost rank " + std::to_string(victim) + " (";
    EXPECT_TRUE(outcome.says(start)) << start << "\n" << outcome.output;
    EXPECT_TRUE(outcome.says(") was at step 17, task combine.F m0 l3>")) << outcome.output;
  }
  EXPECT_TRUE(outcome.says(") at step 17, task experts.F m0 l3: " + reason)) << outcome.output;
}

TEST(WatchMpi, KilledRankIsNamed) {
  for (const int victim : {2, 0})
    expect_loss(start(3, "kill", victim), 3, victim, "its connection closed");
}

TEST(WatchMpi, KilledRankIsNamedOverTcp) {
  expect_loss(start(3, "kill", 1, {{"OMPI_MCA_btl", "self,tcp"}}), 3, 1, "its connection closed");
}

TEST(WatchMpi, StoppedRankIsNamed) { expect_loss(start(2, "stop", 1), 2, 1, "silent for "); }

// mpirun wakes it when it ends the others: then it does not take them for lost.
TEST(WatchMpi, AStoppedRankThatGoesOnBlamesNobody) {
  const Outcome outcome = start(3, "stop", 0);
  EXPECT_EQ(outcome.code, 4) << outcome.output;
  EXPECT_TRUE(outcome.says("<rank 1 prints: lost rank 0 (")) << outcome.output;
  EXPECT_TRUE(outcome.says("silent for ")) << outcome.output;
  EXPECT_FALSE(outcome.says("lost rank 1") || outcome.says("lost rank 2")) << outcome.output;
}

TEST(WatchMpi, OthersAreToldWhyARankStops) {
  const Outcome outcome = start(3, "throw", 1);
  EXPECT_EQ(outcome.code, 3) << outcome.output;
  EXPECT_TRUE(outcome.says("<rank 1 prints: the disk is full>")) << outcome.output;
  for (const int rank : {0, 2})
    EXPECT_TRUE(outcome.says("<rank " + std::to_string(rank) + ": rank 1 (")) << outcome.output;
  EXPECT_TRUE(outcome.says(") failed: the disk is full>")) << outcome.output;
}

TEST(WatchMpi, MessageOfAnotherSize) {
  const std::string expected =
      "<rank 1 prints: [exchange] rank 1 expected 512 bytes from rank 0 on lane far, got ";
  const Outcome shorter = start(2, "send-short", 0);
  EXPECT_EQ(shorter.code, 4) << shorter.output;
  EXPECT_TRUE(shorter.says(expected + "480")) << shorter.output;
  const Outcome longer = start(2, "send-long", 0);
  EXPECT_EQ(longer.code, 4) << longer.output;
  EXPECT_TRUE(longer.says(expected + "more")) << longer.output;
}

TEST(WatchMpi, GoodRunReturnsZero) {
  const Outcome outcome = start(3, "send", 0);
  EXPECT_EQ(outcome.code, 0) << outcome.output;
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) {
  if (strait::under_mpirun()) return strait::run_rank(argv[1], std::atoi(argv[2]));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
