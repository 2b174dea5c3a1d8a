// The watch between ranks that are threads of this process. A peer that dies is played by a rank
// that joins and then drops its connection; real processes die in watch_mpi_test.cpp.
#include "parallel/comm/watch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "core/errors.h"
#include "parallel/comm/exchange.h"
#include "parallel/comm/local.h"
#include "parallel/comm/self.h"
#include "parallel/comm/watch_join.h"

namespace strait {
namespace {

using std::chrono::milliseconds;

// The message with which the watch ends, however long that takes. (A Comm of `local` also hears
// from the other Comms that have failed.)
std::string failure_of(Watch& watch, const Comm& comm) {
  try {
    watch.close();
  } catch (const CommError& error) {
    EXPECT_TRUE(comm.failure());
    return error.what();
  }
  return "no CommError";
}

// As run_ranks(), but a rank that returns does not end its communication.
void with_ranks(int num_ranks, const std::function<void(Rank, Comm&)>& fn) {
  LocalWorld world(num_ranks);
  std::vector<std::unique_ptr<Comm>> comms;
  for (int rank = 0; rank < num_ranks; ++rank) comms.push_back(world.comm({rank}));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] { fn({rank}, *comms[static_cast<size_t>(rank)]); });
  for (std::thread& thread : threads) thread.join();
}

class WatchRanks : public testing::TestWithParam<int> {};

TEST_P(WatchRanks, GoodEndWaitsForAll) {
  std::atomic<int> arrived{0};
  run_ranks(GetParam(), [&](Rank rank, Comm& comm) {
    Watch watch(comm, {.heartbeat = milliseconds(5)});
    watch.set_task(1, "experts.F m0 l3");
    std::this_thread::sleep_for(milliseconds(10 * rank.value));
    ++arrived;
    watch.close();
    EXPECT_EQ(arrived.load(), comm.size());
    watch.close();
    EXPECT_FALSE(watch.lost());
    const Channel host = comm.channel(LinkLane::host, comm.world());
    host.enqueue(barrier(host)).wait();
  });
}

TEST_P(WatchRanks, DestructorEndsWell) {
  run_ranks(GetParam(), [&](Rank, Comm& comm) {
    { Watch watch(comm); }
    const Channel host = comm.channel(LinkLane::host, comm.world());
    host.enqueue(barrier(host)).wait();
  });
}

TEST_P(WatchRanks, DroppedConnectionIsALoss) {
  const int ranks = GetParam();
  for (int victim = 0; victim < ranks && ranks > 1; victim += ranks - 1) {
    std::atomic<int> printed{0}, told{0};
    with_ranks(ranks, [&](Rank rank, Comm& comm) {
      if (rank.value == victim) {
        std::vector<WatchPeer> peers = join_watch(comm, milliseconds(30000));
        for (WatchPeer& peer : peers)
          peer.link.send({.kind = WatchMessage::Kind::beat, .step = 17, .text = "experts.F m0 l3"});
        return;
      }
      std::string line;
      Watch watch(comm, {.on_loss = [&](const std::string& text) {
                    line = text;
                    ++printed;
                  }});
      watch.set_task(18, "combine.F m0 l3");
      const std::string message = failure_of(watch, comm);
      const std::string start = "lost rank " + std::to_string(victim) +
                                " (localhost) at step 17, task experts.F m0 l3: its connection "
                                "closed; rank " +
                                std::to_string(rank.value) + " (localhost) was ";
      EXPECT_EQ(message.substr(0, start.size()), start) << message;
      EXPECT_TRUE(watch.lost());
      EXPECT_TRUE(line.empty() || line == message) << line;
      EXPECT_THROW(watch.close(), CommError);
      EXPECT_FALSE(watch.abandon(message));
      EXPECT_TRUE(watch.abandon("an error of its own"));
      ++told;
    });
    EXPECT_EQ(told.load(), ranks - 1);
    EXPECT_EQ(printed.load(), 1);
  }
}

// Rank 0 says what it waits for, and which others wait for the lost rank: not those that wait for
// somebody else.
TEST(Watch, TheLineSaysWhoWaitedForWhom) {
  using Kind = WatchMessage::Kind;
  constexpr int kLost = 3;
  std::promise<void> told[2];
  std::string line;
  with_ranks(4, [&](Rank rank, Comm& comm) {
    if (rank.value == 0) {
      Watch watch(comm, {.on_loss = [&](const std::string& text) { line = text; }});
      watch.set_wait(18, "attention.F m1 l3", "combine.F m0 l3", {{0}, {kLost}});
      failure_of(watch, comm);
      EXPECT_EQ(watch.place(), "rank 0 (localhost) at step 18: ");
      return;
    }
    std::vector<WatchPeer> peers = join_watch(comm, milliseconds(30000));
    WatchMessage beat{.kind = Kind::beat, .step = 17, .text = "experts.F m0 l3"};
    if (rank.value == 1) {
      beat.reason = "receive.F m0 l4";
      beat.ranks = {kLost};
    } else if (rank.value == 2) {
      beat.reason = "combine.F m0 l7";
      beat.ranks = {1, 2};
    }
    for (WatchPeer& peer : peers) peer.link.send(beat);
    if (rank.value < kLost) {
      told[rank.value - 1].set_value();
      while (!peers.front().link.closed()) {
        peers.front().link.receive();
        std::this_thread::sleep_for(milliseconds(5));
      }
      return;
    }
    for (std::promise<void>& other : told) other.get_future().wait();
    std::this_thread::sleep_for(milliseconds(100));  // until rank 0 has read it
  });
  EXPECT_EQ(
      line,
      "lost rank 3 (localhost) at step 17, task experts.F m0 l3: its connection closed; rank 0 "
      "(localhost) was at step 18, task attention.F m1 l3, waiting for combine.F m0 l3 with "
      "ranks 0, 3; waiting for rank 3, too: rank 1 (localhost) in receive.F m0 l4");
}

TEST(Watch, AWaitForAllNamesNobody) {
  std::promise<void> waits;
  std::string line;
  with_ranks(2, [&](Rank rank, Comm& comm) {
    if (rank.value == 1) {
      std::vector<WatchPeer> peers = join_watch(comm, milliseconds(30000));
      peers.front().link.send(
          {.kind = WatchMessage::Kind::beat, .step = 17, .text = "commit", .reason = "commit"});
      waits.get_future().wait();
      return;
    }
    Watch watch(comm, {.on_loss = [&](const std::string& text) { line = text; }});
    watch.set_wait(17, "update b0", "commit", {});
    waits.set_value();
    failure_of(watch, comm);
  });
  EXPECT_EQ(
      line,
      "lost rank 1 (localhost) at step 17, waiting for commit with all ranks: its connection "
      "closed; rank 0 (localhost) was at step 17, task update b0, waiting for commit with all "
      "ranks");
}

TEST_P(WatchRanks, SilenceIsALoss) {
  const int ranks = GetParam();
  if (ranks == 1) return;
  std::atomic<int> told{0};
  with_ranks(ranks, [&](Rank rank, Comm& comm) {
    if (rank.value == ranks - 1) {
      // Joined, connected, but it never says anything.
      const std::vector<WatchPeer> peers = join_watch(comm, milliseconds(30000));
      while (told.load() < ranks - 1) std::this_thread::sleep_for(milliseconds(1));
      return;
    }
    Watch watch(comm, {.heartbeat = milliseconds(10), .silence = milliseconds(400)});
    const std::string message = failure_of(watch, comm);
    ++told;
    const std::string start = "lost rank " + std::to_string(ranks - 1) +
                              " (localhost) before the first step: silent for ";
    EXPECT_EQ(message.substr(0, start.size()), start) << message;
  });
}

TEST_P(WatchRanks, OneRankFailsAndTheOthersAreToldWhy) {
  const int ranks = GetParam();
  for (int victim = 0; victim < ranks; ++victim) {
    std::atomic<int> prints{0};
    with_ranks(ranks, [&](Rank rank, Comm& comm) {
      Watch watch(comm);
      std::string why = "the disk is full";
      if (rank.value != victim) {
        why = failure_of(watch, comm);
        EXPECT_EQ(why, "rank " + std::to_string(victim) + " (localhost) failed: the disk is full");
      }
      if (watch.abandon(why)) ++prints;
    });
    EXPECT_EQ(prints.load(), 1);
  }
}

TEST_P(WatchRanks, AllFailForTheSameReasonAndOnePrints) {
  std::atomic<int> prints{0};
  with_ranks(GetParam(), [&](Rank, Comm& comm) {
    Watch watch(comm);
    if (watch.abandon("loss is not finite")) ++prints;
  });
  EXPECT_EQ(prints.load(), 1);
}

TEST_P(WatchRanks, ExceptionOnItsWayUpTellsTheOthers) {
  const int ranks = GetParam();
  with_ranks(ranks, [&](Rank rank, Comm& comm) {
    try {
      Watch watch(comm);
      if (rank.value == ranks - 1) throw DataError("unreadable");
      EXPECT_EQ(failure_of(watch, comm), "rank " + std::to_string(ranks - 1) +
                                             " (localhost) failed: it stopped on an error");
    } catch (const DataError&) {
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, WatchRanks, testing::Values(1, 2, 3, 5));

TEST(WatchJoin, MissingRanksAreNamed) {
  with_ranks(3, [&](Rank rank, Comm& comm) {
    const Channel host = comm.channel(LinkLane::host, comm.world());
    if (rank.value == 2) {
      // Takes part in the broadcast of the invitation and then does not come.
      int64_t size = 0;
      host.enqueue(broadcast(host, 0, std::as_writable_bytes(std::span(&size, 1)))).wait();
      std::vector<std::byte> text(static_cast<size_t>(size));
      host.enqueue(broadcast(host, 0, text)).wait();
      return;
    }
    std::string message;
    try {
      Watch watch(comm, {.connect = milliseconds(2000)});
      message = failure_of(watch, comm);
    } catch (const CommError& error) {
      message = error.what();
    }
    EXPECT_NE(message.find("within 2 s, missing: 2 (localhost)"), std::string::npos) << message;
  });
}

std::string next_message(WatchLink& link) {
  std::optional<WatchMessage> message;
  while (!(message = link.receive()) && !link.closed())
    wait_to_read({link.descriptor()}, std::chrono::steady_clock::now() + milliseconds(100));
  return message ? message->text : "closed";
}

TEST(WatchJoin, StrangersAreNotLetIn) {
  with_ranks(2, [&](Rank rank, Comm& comm) {
    if (rank.value == 0) {
      std::vector<WatchPeer> peers = join_watch(comm, milliseconds(30000));
      ASSERT_EQ(peers.size(), 1u);
      EXPECT_EQ(peers[0].rank.value, 1);
      // What the impostor said comes from no peer, what rank 1 says does.
      EXPECT_EQ(next_message(peers[0].link), "I am rank 1");
      EXPECT_EQ(next_message(peers[0].link), "closed");
      return;
    }
    // Reads the invitation as any rank does, then knocks with wrong tokens first.
    const Channel host = comm.channel(LinkLane::host, comm.world());
    int64_t size = 0;
    host.enqueue(broadcast(host, 0, std::as_writable_bytes(std::span(&size, 1)))).wait();
    std::string text(static_cast<size_t>(size), ' ');
    host.enqueue(broadcast(host, 0, std::as_writable_bytes(std::span(text)))).wait();
    const size_t second = text.find(' ') + 1, third = text.find(' ', second) + 1;
    const std::string token = text.substr(0, second - 1);
    const int port = std::stoi(text.substr(third));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    const auto knock = [&](const WatchMessage& hello) {
      WatchLink link(connect_to("127.0.0.1", port, deadline));
      link.send(hello);
      return link;
    };
    std::vector<WatchLink> impostors;
    impostors.push_back(knock({.kind = WatchMessage::Kind::hello, .rank = 1, .text = "guess"}));
    impostors.push_back(
        knock({.kind = WatchMessage::Kind::hello, .rank = 1, .text = token.substr(1)}));
    impostors.push_back(knock({.kind = WatchMessage::Kind::hello, .rank = 7, .text = token}));
    impostors.push_back(knock({.kind = WatchMessage::Kind::beat, .rank = 1, .text = token}));
    for (WatchLink& impostor : impostors) EXPECT_EQ(next_message(impostor), "closed");
    WatchLink link = knock({.kind = WatchMessage::Kind::hello, .rank = 1, .text = token});
    link.send({.kind = WatchMessage::Kind::beat, .text = "I am rank 1"});
    EXPECT_EQ(next_message(link).size(), token.size());  // the answer
  });
}

TEST(WatchSelf, NeedsNoConnection) {
  const auto comm = self_comm();
  Watch watch(*comm);
  watch.set_task(1, "attention.F m0 l0");
  EXPECT_FALSE(watch.lost());
  watch.close();
  EXPECT_TRUE(watch.abandon("x"));
}

}  // namespace
}  // namespace strait
