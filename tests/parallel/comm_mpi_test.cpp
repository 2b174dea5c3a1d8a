// The shared checks over MPI. One process per rank, started by launch/run; every rank runs all
// tests, and if one fails on any rank, all ranks return failure. Argument: --longest-message=BYTES.
#include <gtest/gtest.h>
#include <time.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>

#include "comm_checks.h"
#include "core/errors.h"
#include "parallel/comm/all_reduce.h"
#include "parallel/comm/exchange.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/watch.h"

namespace strait {
namespace {

// MPI can be initialised once in a process: all tests share this one.
Comm* world_comm = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

TEST(CommMpi, AllOperations) { tests::check_all(*world_comm, 100003); }

TEST(CommMpi, ManyLargeMessages) {
  for (int round = 0; round < 5; ++round) {
    tests::check_exchange_both_ways(*world_comm, 3 << 20);
    tests::check_all_to_all(*world_comm, 3001, 512);
  }
}

TEST(CommMpi, RanksOfOneHost) {
  for (const std::string& host : world_comm->hosts()) EXPECT_EQ(host, world_comm->hosts()[0]);
  const char* launched = std::getenv("OMPI_COMM_WORLD_SIZE");
  EXPECT_EQ(std::to_string(world_comm->size()), launched ? launched : "unknown");
}

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

TEST(CommMpi, WaitingCostsLittle) {
  const Channel host = world_comm->channel(LinkLane::host, world_comm->world());
  host.enqueue(barrier(host)).wait();
  const double before = cpu_seconds();
  if (world_comm->rank().value == 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  host.enqueue(barrier(host)).wait();
  EXPECT_LT(cpu_seconds() - before, 0.1);
}

TEST(CommMpi, IdlingCostsLittle) {
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_LT(cpu_seconds() - before, 0.1);
}

bool any_rank_failed(bool failed) {
  const Channel host = world_comm->channel(LinkLane::host, world_comm->world());
  std::vector<int64_t> failures{failed ? 1 : 0};
  host.enqueue(all_reduce_sum(host, failures)).wait();
  return failures[0] > 0;
}

// Rank 0 prints everything, the others their failures only.
class FailuresOnly : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", world_comm->rank().value,
                 result.file_name() ? result.file_name() : "?", result.line_number(),
                 result.summary());
  }
};

int run(int64_t longest_message) {
  std::unique_ptr<Comm> comm = mpi_comm(longest_message);
  world_comm = comm.get();
  std::unique_ptr<Watch> watch;
  try {
    watch = std::make_unique<Watch>(*comm);
    if (comm->rank().value != 0) {
      testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
      delete listeners.Release(listeners.default_result_printer());
      listeners.Append(new FailuresOnly);
    }
    const bool failed = any_rank_failed(RUN_ALL_TESTS() != 0);
    watch->close();
    watch.reset();
    comm.reset();
    return failed ? 1 : 0;
  } catch (const std::exception& error) {
    if (!watch || watch->abandon(error.what()))
      std::fprintf(stderr, "rank %d: %s\n", comm->rank().value, error.what());
    std::fflush(stdout);
    std::_Exit(1);
  }
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::FLAGS_gtest_catch_exceptions = false;
  const std::string option = "--longest-message=";
  int64_t longest_message = strait::kMpiPieceBytes;
  if (argc > 1 && std::string(argv[1]).starts_with(option))
    longest_message = std::stoll(argv[1] + option.size());
  return strait::run(longest_message);
}
