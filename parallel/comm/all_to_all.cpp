#include "parallel/comm/all_to_all.h"

#include <cstring>
#include <numeric>

#include "core/errors.h"
#include "parallel/comm/transfers.h"

namespace strait {
namespace {

class AllToAllOperation : public Operation {
 public:
  AllToAllOperation(const Channel& channel, const AllToAll& rows, const char* name)
      : channel_(channel),
        rows_(rows),
        send_rows_(rows.send_rows_R.begin(), rows.send_rows_R.end()),
        recv_rows_(rows.recv_rows_R.begin(), rows.recv_rows_R.end()),
        transfers_(channel, name) {
    const auto ranks = static_cast<size_t>(channel.size());
    STRAIT_CHECK(send_rows_.size() == ranks && recv_rows_.size() == ranks && rows.row_bytes > 0,
                 "[all_to_all] one count per rank of the group, and rows of at least one byte");
    const auto bytes = [&](const std::vector<int64_t>& counts) {
      return static_cast<size_t>(std::accumulate(counts.begin(), counts.end(), int64_t{0}) *
                                 rows.row_bytes);
    };
    STRAIT_CHECK(rows.send.size() == bytes(send_rows_) && rows.recv.size() == bytes(recv_rows_),
                 "[all_to_all] the buffers hold " + std::to_string(rows.send.size()) + " and " +
                     std::to_string(rows.recv.size()) + " bytes, the counts ask for " +
                     std::to_string(bytes(send_rows_)) + " and " +
                     std::to_string(bytes(recv_rows_)));
    const auto self = static_cast<size_t>(channel.self());
    STRAIT_CHECK(send_rows_[self] == recv_rows_[self],
                 "[all_to_all] a rank receives what it sends to itself");
  }

  bool poll() override {
    if (!started_) start();
    started_ = true;
    return transfers_.poll();
  }

 private:
  void start() {
    const int ranks = channel_.size(), self = channel_.self();
    std::vector<size_t> send_at(static_cast<size_t>(ranks) + 1, 0), recv_at(send_at);
    for (size_t peer = 0; peer < static_cast<size_t>(ranks); ++peer) {
      send_at[peer + 1] = send_at[peer] + static_cast<size_t>(send_rows_[peer] * rows_.row_bytes);
      recv_at[peer + 1] = recv_at[peer] + static_cast<size_t>(recv_rows_[peer] * rows_.row_bytes);
    }
    const auto part = [](auto span, const std::vector<size_t>& at, int peer) {
      const auto index = static_cast<size_t>(peer);
      return span.subspan(at[index], at[index + 1] - at[index]);
    };
    // Each rank begins with its next neighbour, so that not all send to the same one first.
    for (int step = 1; step < ranks; ++step) {
      const int from = (self - step + ranks) % ranks;
      transfers_.receive(from, part(rows_.recv, recv_at, from));
    }
    for (int step = 1; step < ranks; ++step) {
      const int to = (self + step) % ranks;
      transfers_.send(to, part(rows_.send, send_at, to));
    }
    const auto mine = part(rows_.send, send_at, self);
    if (!mine.empty())
      std::memcpy(part(rows_.recv, recv_at, self).data(), mine.data(), mine.size());
  }

  Channel channel_;
  AllToAll rows_;
  std::vector<int64_t> send_rows_, recv_rows_;
  Transfers transfers_;
  bool started_ = false;
};

}  // namespace

OperationPtr all_to_all(const Channel& channel, const AllToAll& rows) {
  return std::make_unique<AllToAllOperation>(channel, rows, "all_to_all");
}

OperationPtr all_to_all_counts(const Channel& channel, std::span<const int64_t> send_RK,
                               std::span<int64_t> recv_RK) {
  const auto ranks = static_cast<size_t>(channel.size());
  STRAIT_CHECK(send_RK.size() == recv_RK.size() && send_RK.size() % ranks == 0 && !send_RK.empty(),
               "[all_to_all_counts] as many numbers for each rank, both ways");
  const std::vector<int64_t> ones(ranks, 1);
  return std::make_unique<AllToAllOperation>(
      channel,
      AllToAll{.send = bytes_of(send_RK),
               .recv = bytes_of(recv_RK),
               .send_rows_R = ones,
               .recv_rows_R = ones,
               .row_bytes = static_cast<int64_t>(send_RK.size_bytes() / ranks)},
      "all_to_all_counts");
}

}  // namespace strait
