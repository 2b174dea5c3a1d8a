#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace strait {
namespace {

class Pools : public ::testing::TestWithParam<int> {};

TEST_P(Pools, CoverEveryItemOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.num_threads(), std::max(1, GetParam()));
  for (int64_t count : {0, 1, 2, 7, 1000}) {
    for (int64_t grain : {0, 1, 3, 5000}) {
      std::vector<std::atomic<int>> times(static_cast<size_t>(count));
      pool.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
        EXPECT_LT(begin, end);
        EXPECT_LE(end - begin, std::max<int64_t>(1, grain));
        for (int64_t i = begin; i < end; ++i) ++times[static_cast<size_t>(i)];
      });
      for (const auto& item : times) ASSERT_EQ(item, 1) << count << " items by " << grain;
    }
  }
}

TEST_P(Pools, ManyShortLoopsInARow) {
  ThreadPool pool(GetParam());
  int64_t sum = 0;
  for (int64_t round = 0; round < 500; ++round) {
    std::vector<int64_t> items(8);
    pool.parallel_for(8, 1,
                      [&](int64_t begin, int64_t) { items[static_cast<size_t>(begin)] = round; });
    for (int64_t item : items) sum += item;
  }
  EXPECT_EQ(sum, 8 * 499 * 500 / 2);
}

// The caller runs out of chunks while workers still hold theirs. ThreadSanitizer sees it if they
// then share anything.
TEST_P(Pools, WorkersMayFinishLast) {
  ThreadPool pool(GetParam());
  std::atomic<int64_t> chunks = 0;
  const std::thread::id caller = std::this_thread::get_id();
  for (int64_t round = 0; round < 50; ++round) {
    pool.parallel_for(3, 1, [&](int64_t, int64_t) {
      if (std::this_thread::get_id() != caller)
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      ++chunks;
    });
  }
  EXPECT_EQ(chunks, 150);
}

TEST_P(Pools, RethrowAndGoOn) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    EXPECT_THROW(pool.parallel_for(100, 1,
                                   [&](int64_t begin, int64_t) {
                                     if (begin == 37) throw std::runtime_error("37");
                                   }),
                 std::runtime_error);
    std::atomic<int64_t> ran = 0;
    pool.parallel_for(100, 1, [&](int64_t, int64_t) { ++ran; });
    EXPECT_EQ(ran, 100);
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Pools, ::testing::Values(0, 1, 2, 3, 8));

// Ranks of one process have a pool each.
TEST(ThreadPools, WorkSideBySide) {
  std::vector<std::thread> ranks;
  std::atomic<int64_t> total = 0;
  for (int rank = 0; rank < 4; ++rank)
    ranks.emplace_back([&] {
      ThreadPool pool(2);
      for (int round = 0; round < 100; ++round)
        pool.parallel_for(10, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
    });
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(total, 4 * 100 * 10);
}

TEST(ThreadPools, RanksShareTheCoresOfAHost) {
  const int all = default_num_threads(1);
  EXPECT_GE(all, 1);
  EXPECT_EQ(default_num_threads(0), all);
  EXPECT_EQ(default_num_threads(2), std::max(1, all / 2));
  EXPECT_EQ(default_num_threads(100000), 1);
}

}  // namespace
}  // namespace strait
