// Exchanges between processes, in two nodes of half the ranks each, against one rank. Started by
// launch/run; every rank runs all checks, and if one fails on any rank, that rank returns failure.
#include <gtest/gtest.h>

#include <exception>
#include <memory>

#include "exchange_checks.h"
#include "parallel/comm/mpi.h"

namespace strait {
namespace {

// MPI can be initialised once in a process: all tests share this one.
Comm* world_comm = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

void check(const tests::ExchangeCase& c, bool two_tier, int chunks) {
  const tests::ExchangeResult one = tests::run_exchange(c, nullptr, false, 1);
  tests::check_same_bits(c, one, *world_comm, two_tier, chunks);
}

TEST(ExpertExchangeMpi, FlatHasTheBitsOfOneRank) { check({}, false, 1); }

TEST(ExpertExchangeMpi, TwoTierHasTheBitsOfOneRank) {
  check({}, true, 3);
  check({.top_k = 7, .waves = 2}, true, 3);
  // Rows of more than one part of a relay's work.
  check({.tokens = 230, .top_k = 8, .hidden = 4096}, true, 4);
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    const std::unique_ptr<strait::Comm> comm = strait::mpi_comm();
    comm->group_nodes(comm->size() / 2);
    strait::world_comm = comm.get();
    return RUN_ALL_TESTS();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
