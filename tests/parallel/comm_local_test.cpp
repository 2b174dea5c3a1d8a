// The collectives on `self` and `local`, operations, failures, and the cost of waiting.
#include <gtest/gtest.h>
#include <time.h>

#include <thread>

#include "comm_checks.h"
#include "core/errors.h"
#include "parallel/comm/all_gather.h"
#include "parallel/comm/all_reduce.h"
#include "parallel/comm/all_to_all.h"
#include "parallel/comm/exchange.h"
#include "parallel/comm/local.h"
#include "parallel/comm/reduce_scatter.h"
#include "parallel/comm/self.h"
#include "parallel/comm/transfers.h"

namespace strait {
namespace {

class CommLocal : public testing::TestWithParam<int> {};

TEST_P(CommLocal, AllOperations) {
  run_ranks(GetParam(), [](Rank, Comm& comm) { tests::check_all(comm, 100003); });
}

TEST_P(CommLocal, SplitMessages) {
  LocalWorld world(GetParam(), {}, 1000);
  run_ranks(world, [](Rank, Comm& comm) { tests::check_all(comm, 5000); });
}

INSTANTIATE_TEST_SUITE_P(Ranks, CommLocal, testing::Values(1, 2, 3, 4, 8));

TEST(CommSelf, AllOperations) {
  const auto comm = self_comm();
  tests::check_all(*comm, 1000);
}

std::vector<std::string> hosts_of(int nodes, int ranks_per_node) {
  std::vector<std::string> hosts;
  for (int node = 0; node < nodes; ++node)
    for (int rank = 0; rank < ranks_per_node; ++rank)
      hosts.push_back("host" + std::to_string(node));
  return hosts;
}

class CommNodes : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(CommNodes, SameBitsAsOnOneNode) {
  const auto [nodes, ranks_per_node] = GetParam();
  LocalWorld world(nodes * ranks_per_node, hosts_of(nodes, ranks_per_node));
  // Of two ranks, enough for several slices of a reduce-scatter; of more, one slice and less to
  // wait for.
  const int64_t large = world.size() == 2 ? 300007 : 100007;
  run_ranks(world, [large](Rank, Comm& comm) { tests::check_all(comm, large); });
}

INSTANTIATE_TEST_SUITE_P(Shapes, CommNodes,
                         testing::Values(std::pair{2, 1}, std::pair{2, 2}, std::pair{2, 3},
                                         std::pair{3, 2}, std::pair{2, 4}, std::pair{4, 2}));

TEST(CommNodes, CrossesBetweenNodesOnce) {
  constexpr int kNodes = 2, kLocal = 4, kRanks = kNodes * kLocal;
  constexpr int64_t kSize = 8 * 1000;
  LocalWorld world(kRanks, hosts_of(kNodes, kLocal));
  run_ranks(world, [](Rank, Comm& comm) {
    const Channel shard = comm.channel(LinkLane::shard, comm.world());
    const std::vector<int64_t> counts(kRanks, kSize / kRanks);
    std::vector<float> send(kSize, 1.0f), recv(kSize / kRanks);
    shard.enqueue(reduce_scatter_sum(shard, {.send = send, .recv = recv, .counts_R = counts}))
        .wait();
    // One node sum for each block of the other node's rank in the same place.
    EXPECT_EQ(comm.bytes_sent(LinkLane::shard).other_nodes, 4 * kSize / kRanks);
    EXPECT_EQ(comm.bytes_sent(LinkLane::shard).same_node, 4 * kSize * (kLocal - 1) / kLocal);
    EXPECT_EQ(comm.bytes_sent(LinkLane::far).other_nodes, 0);
    std::vector<std::byte> data(kSize);
    const std::vector<int64_t> bytes(kRanks, kSize / kRanks);
    const LaneBytes before = comm.bytes_sent(LinkLane::shard);
    shard.enqueue(all_gather(shard, {.data = data, .bytes_R = bytes})).wait();
    EXPECT_EQ(comm.bytes_sent(LinkLane::shard).other_nodes - before.other_nodes, kSize / kRanks);
    EXPECT_EQ(comm.bytes_sent(LinkLane::shard).same_node - before.same_node,
              kSize / kLocal * (kLocal - 1));
  });
}

TEST(CommLanes, OneLaneRunsInOrderAndAfterEventsHoldIt) {
  run_ranks(2, [](Rank rank, Comm& comm) {
    const Channel near = comm.channel(LinkLane::near, comm.world());
    std::vector<int> order;  // written on the communication thread only, read after the last event
    const auto note = [&](int number) {
      return sequence({[&order, number] {
        order.push_back(number);
        return nullptr;
      }});
    };
    Completion gate;
    near.enqueue(note(1), {gate.event()});
    near.enqueue(barrier(near));
    const Event last = near.enqueue(note(2));
    EXPECT_FALSE(last.ready());
    if (rank.value == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    gate.finish();
    last.wait();
    EXPECT_EQ(order, (std::vector{1, 2}));
  });
}

TEST(CommLanes, CountsThenAllocateThenRows) {
  run_ranks(4, [](Rank rank, Comm& comm) {
    const Channel far = comm.channel(LinkLane::far, comm.world());
    const int ranks = comm.size();
    std::vector<int64_t> send_rows, recv_rows(static_cast<size_t>(ranks));
    std::vector<int32_t> send, recv, expected;
    for (int peer = 0; peer < ranks; ++peer) {
      send_rows.push_back((rank.value + peer) % 3);
      send.insert(send.end(), static_cast<size_t>(send_rows.back()), rank.value * 10 + peer);
      expected.insert(expected.end(), static_cast<size_t>((rank.value + peer) % 3),
                      peer * 10 + rank.value);
    }
    const Event done = far.enqueue(sequence({
        [&] { return all_to_all_counts(far, send_rows, recv_rows); },
        [&] {
          int64_t rows = 0;
          for (const int64_t count : recv_rows) rows += count;
          recv.resize(static_cast<size_t>(rows));
          return all_to_all(far, {.send = std::as_bytes(std::span(send)),
                                  .recv = std::as_writable_bytes(std::span(recv)),
                                  .send_rows_R = send_rows,
                                  .recv_rows_R = recv_rows,
                                  .row_bytes = 4});
        },
    }));
    done.wait();
    EXPECT_EQ(recv, expected);
  });
}

TEST(CommLanes, AStepLivesAsLongAsItsOperation) {
  // Operations use buffers that only their step holds.
  struct Probe : Operation {
    std::weak_ptr<int> buffer;
    bool* alive;
    Probe(std::weak_ptr<int> the_buffer, bool* is_alive)
        : buffer(std::move(the_buffer)), alive(is_alive) {}
    bool poll() override {
      *alive = !buffer.expired();
      return true;
    }
  };
  bool alive = false;
  std::vector<Step> steps{[buffer = std::make_shared<int>(), &alive] {
    return std::make_unique<Probe>(buffer, &alive);
  }};
  const auto comm = self_comm();
  comm->enqueue(LinkLane::host, sequence(std::move(steps))).wait();
  EXPECT_TRUE(alive);
}

TEST(CommLanes, TogetherOnSeveralGroups) {
  run_ranks(4, [](Rank rank, Comm& comm) {
    const int half = rank.value / 2 * 2;
    const Group pair(GroupKind::custom, {{half}, {half + 1}}, rank);
    const Group cross(GroupKind::custom, {{rank.value % 2}, {rank.value % 2 + 2}}, rank, 1);
    const Channel first = comm.channel(LinkLane::shard, pair),
                  second = comm.channel(LinkLane::shard, cross);
    std::vector<double> a{1.0 * rank.value}, b{10.0 * rank.value};
    std::vector<OperationPtr> both;
    both.push_back(all_reduce_sum(first, a));
    both.push_back(all_reduce_sum(second, b));
    comm.enqueue(LinkLane::shard, together(std::move(both))).wait();
    EXPECT_EQ(a[0], half + half + 1);
    EXPECT_EQ(b[0], 10.0 * (2 * (rank.value % 2) + 2));
  });
}

std::string message_of(const std::function<void()>& fn) {
  try {
    fn();
  } catch (const CommError& error) {
    return error.what();
  }
  return "no CommError";
}

TEST(CommFailure, OneRankThrowsAndTheOthersAreTold) {
  std::atomic<int> told{0}, passed{0};
  EXPECT_THROW(run_ranks(4,
                         [&](Rank rank, Comm& comm) {
                           const Channel host = comm.channel(LinkLane::host, comm.world());
                           host.enqueue(barrier(host)).wait();
                           // Nobody is still inside the first barrier when rank 2 fails.
                           for (++passed; passed.load() < 4;) std::this_thread::yield();
                           if (rank.value == 2) throw DataError("the disk is full");
                           const std::string message =
                               message_of([&] { host.enqueue(barrier(host)).wait(); });
                           EXPECT_EQ(message, "rank 2 failed: the disk is full");
                           // Later calls fail at once.
                           EXPECT_EQ(message_of([&] { host.enqueue(barrier(host)).wait(); }),
                                     message);
                           ++told;
                         }),
               DataError);
  EXPECT_EQ(told.load(), 3);
}

// The other rank may have its CommError before the one that failed has come to its end.
TEST(CommFailure, TheCauseIsRethrownWhicheverComesFirst) {
  EXPECT_THROW(run_ranks(2,
                         [](Rank rank, Comm&) {
                           if (rank.value == 1) throw CommError("rank 0 failed: not finite");
                           std::this_thread::sleep_for(std::chrono::milliseconds(50));
                           throw NumericsError("not finite");
                         }),
               NumericsError);
}

TEST(CommFailure, WrongSizeNamesBothRanks) {
  const std::string message = message_of([] {
    run_ranks(2, [](Rank rank, Comm& comm) {
      const Channel far = comm.channel(LinkLane::far, comm.world());
      std::vector<std::byte> send(rank.value == 0 ? 480 : 0), recv(rank.value == 1 ? 512 : 0);
      Exchange messages;
      if (rank.value == 0) messages.sends.push_back({.to = 1, .data = send});
      if (rank.value == 1) messages.receives.push_back({.from = 0, .data = recv});
      far.enqueue(exchange(far, messages)).wait();
      far.enqueue(barrier(far)).wait();
    });
  });
  EXPECT_NE(message.find("[exchange] rank 1 expected 512 bytes from rank 0 on lane far, got 480"),
            std::string::npos)
      << message;
}

TEST(CommFailure, FailedAfterEventFailsTheOperation) {
  const auto comm = self_comm();
  const Channel host = comm->channel(LinkLane::host, comm->world());
  const Event failed = Event::failed(std::make_exception_ptr(NumericsError("not finite")));
  const Event event = host.enqueue(barrier(host), {failed});
  EXPECT_THROW(event.wait(), NumericsError);
  EXPECT_TRUE(comm->failure());
}

TEST(CommFailure, FailFromAnotherThreadWakesWaiters) {
  LocalWorld world(2);
  const auto comm = world.comm({0});
  const Channel host = comm->channel(LinkLane::host, comm->world());
  const Event event = host.enqueue(barrier(host));  // rank 1 never comes
  std::thread other([&] { comm->fail(std::make_exception_ptr(CommError("rank 1 is silent"))); });
  EXPECT_EQ(message_of([&] { event.wait(); }), "rank 1 is silent");
  other.join();
}

TEST(CommFailure, ClosedWithPendingOperations) {
  Event event;
  {
    LocalWorld world(2);
    const auto comm = world.comm({0});
    const Channel host = comm->channel(LinkLane::host, comm->world());
    event = host.enqueue(barrier(host));
  }
  EXPECT_EQ(message_of([&] { event.wait(); }), "[comm] closed while operations were pending");
}

TEST(CommWaiting, CostsLittle) {
  // A rank that waits half a second for its peer: both threads sleep nearly all of that time.
  LocalWorld world(2);
  const auto comm = world.comm({0});
  const Channel host = comm->channel(LinkLane::host, comm->world());
  const Event event = host.enqueue(barrier(host));
  const auto cpu_seconds = [] {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_LT(cpu_seconds() - before, 0.1);
  EXPECT_FALSE(event.ready());
  const auto peer = world.comm({1});
  const Channel peer_host = peer->channel(LinkLane::host, peer->world());
  peer_host.enqueue(barrier(peer_host)).wait();
  event.wait();
}

}  // namespace
}  // namespace strait
