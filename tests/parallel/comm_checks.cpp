#include "comm_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "parallel/comm/all_gather.h"
#include "parallel/comm/all_reduce.h"
#include "parallel/comm/all_to_all.h"
#include "parallel/comm/exchange.h"
#include "parallel/comm/reduce_scatter.h"
#include "parallel/comm/transfers.h"
#include "parallel/mesh/mesh.h"

namespace strait::tests {
namespace {

// A value with many digits in its mantissa, so that the order of additions shows.
template <class T>
T value_of(int rank, int64_t index) {
  const auto mixed =
      static_cast<uint64_t>(rank * 1000003 + index * 7919 + 17) * 0x9e3779b97f4a7c15ull;
  if constexpr (std::is_integral_v<T>) return static_cast<T>(mixed >> 20) - (T{1} << 42);
  return static_cast<T>(static_cast<double>(mixed >> 11) / 9007199254740992.0 * 3.0 - 1.0);
}

// The definition of the order: sum[begin, end) = sum of the largest power of two below + the rest.
template <class T>
T tree_value(int begin, int end, int64_t index) {
  if (end - begin == 1) return value_of<T>(begin, index);
  const int left = static_cast<int>(std::bit_floor(static_cast<unsigned>(end - begin - 1)));
  return tree_value<T>(begin, begin + left, index) + tree_value<T>(begin + left, end, index);
}

template <class T>
std::vector<T> values_of(int rank, int64_t size) {
  std::vector<T> values(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) values[static_cast<size_t>(i)] = value_of<T>(rank, i);
  return values;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
void check_all_reduce_of(Comm& comm, int64_t size) {
  const Channel shard = comm.channel(LinkLane::shard, comm.world());
  std::vector<T> sum = values_of<T>(comm.rank().value, size), expected(sum.size()), most(sum),
                 largest(sum);
  const Event sum_done = shard.enqueue(all_reduce_sum(shard, sum));
  const Event most_done = shard.enqueue(all_reduce_max(shard, most));
  for (int64_t i = 0; i < size; ++i) {
    expected[static_cast<size_t>(i)] = tree_value<T>(0, comm.size(), i);
    for (int rank = 0; rank < comm.size(); ++rank)
      largest[static_cast<size_t>(i)] =
          std::max(largest[static_cast<size_t>(i)], value_of<T>(rank, i));
  }
  sum_done.wait();
  most_done.wait();
  EXPECT_TRUE(same_bits(sum, expected)) << "size " << size << " ranks " << comm.size();
  EXPECT_TRUE(same_bits(most, largest)) << "size " << size << " ranks " << comm.size();
}

std::byte byte_of(int from, int to, int64_t index) {
  return static_cast<std::byte>((from * 31 + to * 7 + index * 13) & 0xff);
}

}  // namespace

void check_all_to_all(Comm& comm, int64_t most_rows, int64_t row_bytes) {
  const Channel far = comm.channel(LinkLane::far, comm.world());
  const int self = comm.rank().value, ranks = comm.size();
  // Some pairs send nothing, others up to most_rows.
  const auto rows = [&](int from, int to) { return (from * 3 + to * 5) % 4 * most_rows / 3; };
  std::vector<int64_t> send_rows, recv_rows;
  std::vector<std::byte> send, expected;
  for (int peer = 0; peer < ranks; ++peer) {
    send_rows.push_back(rows(self, peer));
    recv_rows.push_back(rows(peer, self));
    for (int64_t i = 0; i < send_rows.back() * row_bytes; ++i)
      send.push_back(byte_of(self, peer, i));
    for (int64_t i = 0; i < recv_rows.back() * row_bytes; ++i)
      expected.push_back(byte_of(peer, self, i));
  }
  std::vector<std::byte> recv(expected.size());
  far.enqueue(all_to_all(far, {.send = send,
                               .recv = recv,
                               .send_rows_R = send_rows,
                               .recv_rows_R = recv_rows,
                               .row_bytes = row_bytes}))
      .wait();
  EXPECT_TRUE(same_bits(recv, expected)) << "rows " << most_rows << " ranks " << ranks;
}

void check_all_to_all_counts(Comm& comm) {
  const Channel far = comm.channel(LinkLane::far, comm.world());
  const int self = comm.rank().value, ranks = comm.size(), numbers = 3;
  std::vector<int64_t> send, recv(static_cast<size_t>(ranks * numbers), -1), expected;
  for (int peer = 0; peer < ranks; ++peer)
    for (int k = 0; k < numbers; ++k) {
      send.push_back((int64_t{self} << 40) + peer * 10 + k);
      expected.push_back((int64_t{peer} << 40) + self * 10 + k);
    }
  far.enqueue(all_to_all_counts(far, send, recv)).wait();
  EXPECT_EQ(recv, expected);
}

void check_all_reduce(Comm& comm, int64_t size) {
  check_all_reduce_of<float>(comm, size);
  check_all_reduce_of<double>(comm, size);
  check_all_reduce_of<int64_t>(comm, size);
  if (size == 0) return;
  const Channel host = comm.channel(LinkLane::host, comm.world());
  std::vector<float> values(static_cast<size_t>(size), 1.0f);
  if (comm.rank().value == comm.size() - 1) values.back() = std::numeric_limits<float>::quiet_NaN();
  host.enqueue(all_reduce_max(host, values)).wait();
  EXPECT_TRUE(std::isnan(values.back()));
}

void check_reduce_scatter(Comm& comm, int64_t size) {
  const Channel shard = comm.channel(LinkLane::shard, comm.world());
  const int self = comm.rank().value, ranks = comm.size();
  // Uneven: rank r owns a share of r + 1 parts, the last rank the rest; rank 0 nothing if there are
  // several.
  std::vector<int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank)
    counts.push_back(ranks > 1 && rank == 0 ? 0 : size * (rank + 1) / (ranks * ranks));
  counts.back() += size - std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + self, int64_t{0});
  const int64_t count = counts[static_cast<size_t>(self)];
  std::vector<float> send = values_of<float>(self, size), expected,
                     recv(static_cast<size_t>(count));
  for (int64_t i = begin; i < begin + count; ++i)
    expected.push_back(tree_value<float>(0, ranks, i));
  shard.enqueue(reduce_scatter_sum(shard, {.send = send, .recv = recv, .counts_R = counts})).wait();
  EXPECT_TRUE(same_bits(recv, expected)) << "size " << size << " ranks " << ranks;
  // In place.
  const auto own = std::span(send).subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
  shard.enqueue(reduce_scatter_sum(shard, {.send = send, .recv = own, .counts_R = counts})).wait();
  EXPECT_TRUE(same_bits(std::vector<float>(own.begin(), own.end()), expected));
}

void check_all_gather(Comm& comm, int64_t most_bytes) {
  const Channel shard = comm.channel(LinkLane::shard, comm.world());
  std::vector<int64_t> sizes;
  std::vector<std::byte> data, expected;
  for (int rank = 0; rank < comm.size(); ++rank) {
    sizes.push_back(rank % 3 == 1 ? 0 : most_bytes / (rank + 1));
    for (int64_t i = 0; i < sizes.back(); ++i) {
      expected.push_back(byte_of(rank, 0, i));
      data.push_back(rank == comm.rank().value ? expected.back() : std::byte{0xee});
    }
  }
  shard.enqueue(all_gather(shard, {.data = data, .bytes_R = sizes})).wait();
  EXPECT_TRUE(same_bits(data, expected)) << "bytes " << most_bytes << " ranks " << comm.size();
}

void check_broadcast(Comm& comm, int64_t bytes) {
  const Channel host = comm.channel(LinkLane::host, comm.world());
  for (int root = 0; root < comm.size(); ++root) {
    std::vector<std::byte> data(static_cast<size_t>(bytes)), expected(data);
    for (int64_t i = 0; i < bytes; ++i) expected[static_cast<size_t>(i)] = byte_of(root, 1, i);
    if (comm.rank().value == root) data = expected;
    host.enqueue(broadcast(host, root, data)).wait();
    EXPECT_TRUE(same_bits(data, expected)) << "root " << root << " ranks " << comm.size();
  }
}

void check_barrier(Comm& comm) {
  const Channel host = comm.channel(LinkLane::host, comm.world());
  for (int round = 0; round < 3; ++round) host.enqueue(barrier(host)).wait();
}

void check_gather_strings(Comm& comm) {
  const Channel host = comm.channel(LinkLane::host, comm.world());
  const auto text = [](int rank) {
    return std::string(static_cast<size_t>(rank * 7 % 5), static_cast<char>('a' + rank));
  };
  for (int root = 0; root < comm.size(); ++root) {
    const std::string mine = text(comm.rank().value);
    std::vector<std::string> all, expected;
    host.enqueue(gather_strings(host, root, mine, &all)).wait();
    for (int rank = 0; rank < comm.size() && rank >= 0; ++rank) expected.push_back(text(rank));
    if (comm.rank().value == root)
      EXPECT_EQ(all, expected);
    else
      EXPECT_TRUE(all.empty());
  }
}

void check_exchange_both_ways(Comm& comm, int64_t bytes) {
  const Channel pipe = comm.channel(LinkLane::pipe, comm.world());
  const int self = comm.rank().value, ranks = comm.size();
  if (ranks < 2) return;
  const int next = (self + 1) % ranks, before = (self + ranks - 1) % ranks;
  std::vector<std::byte> to_next(static_cast<size_t>(bytes)), to_before(to_next),
      from_next(to_next), from_before(to_next), expected_next(to_next), expected_before(to_next);
  for (int64_t i = 0; i < bytes; ++i) {
    const auto at = static_cast<size_t>(i);
    to_next[at] = byte_of(self, 2, i);
    to_before[at] = byte_of(self, 3, i);
    expected_before[at] = byte_of(before, 2, i);
    expected_next[at] = byte_of(next, 3, i);
  }
  // With two ranks both messages go to the same peer: they are matched in the order they are
  // listed.
  Exchange swap;
  swap.sends = {{.to = next, .data = to_next}, {.to = before, .data = to_before}};
  swap.receives = {{.from = before, .data = from_before}, {.from = next, .data = from_next}};
  pipe.enqueue(exchange(pipe, swap)).wait();
  EXPECT_TRUE(same_bits(from_before, expected_before));
  EXPECT_TRUE(same_bits(from_next, expected_next));
}

void check_lanes_are_independent(Comm& comm) {
  // The far lane's head waits for an event that is finished only after the near lane's barrier is
  // through, and ranks enqueue on the two lanes in different orders.
  const Channel near = comm.channel(LinkLane::near, comm.world());
  const Channel far = comm.channel(LinkLane::far, comm.world());
  Completion gate;
  std::vector<int64_t> values{1};
  Event near_done, far_done;
  if (comm.rank().value % 2 == 0) {
    far_done = far.enqueue(all_reduce_sum(far, values), {gate.event()});
    near_done = near.enqueue(barrier(near));
  } else {
    near_done = near.enqueue(barrier(near));
    far_done = far.enqueue(all_reduce_sum(far, values), {gate.event()});
  }
  near_done.wait();
  EXPECT_FALSE(far_done.ready());
  gate.finish();
  far_done.wait();
  EXPECT_EQ(values[0], comm.size());
}

void check_groups_of_a_mesh(Comm& comm) {
  const int ranks = comm.size();
  const int pipeline = ranks % 2 == 0 ? 2 : 1;
  const int expert = ranks / pipeline % 2 == 0 ? 2 : 1;
  const Mesh mesh(ranks, pipeline, expert);
  const auto sum_over = [&](const Group& group) {
    const Channel shard = comm.channel(LinkLane::shard, group);
    std::vector<double> values{static_cast<double>(comm.rank().value)};
    shard.enqueue(all_reduce_sum(shard, values)).wait();
    double expected = 0;
    for (const Rank rank : group.ranks()) expected += rank.value;
    EXPECT_EQ(values[0], expected) << group.name();
  };
  sum_over(mesh.world(comm.rank()));
  sum_over(mesh.pipeline(comm.rank()));
  sum_over(mesh.data(comm.rank()));
  sum_over(mesh.expert(comm.rank()));
  sum_over(mesh.replicas(comm.rank()));
}

void check_all(Comm& comm, int64_t large) {
  for (const int64_t size : {int64_t{0}, int64_t{1}, int64_t{7}, int64_t{1023}, large}) {
    check_all_to_all(comm, size, 5);
    check_all_reduce(comm, size);
    check_reduce_scatter(comm, size);
    check_all_gather(comm, size);
    check_broadcast(comm, size);
    check_exchange_both_ways(comm, size);
  }
  check_all_to_all_counts(comm);
  check_barrier(comm);
  check_gather_strings(comm);
  check_lanes_are_independent(comm);
  check_groups_of_a_mesh(comm);
}

}  // namespace strait::tests
