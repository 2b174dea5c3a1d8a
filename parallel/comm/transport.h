// parallel/comm/transport.h: the seam between backends: single messages between ranks, by lane and
// tag.
//
// Only the communication thread of the rank calls a Transport, after construction. Messages of one
// (lane, tag, sender, receiver) are matched in the order in which both sides post them. A send may
// finish only when it is received.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "parallel/mesh/groups.h"

namespace strait {

// The queues of the communication thread. Tasks of one lane run strictly in order, lanes are
// independent.
enum class LinkLane : uint8_t {
  near,   // inside a node
  far,    // between nodes
  pipe,   // from stage to stage
  shard,  // gradients and weights
  host,   // commit, checkpoints, everything rare
};
inline constexpr int kNumLinkLanes = 5;
const char* name_of(LinkLane lane);

class Transport {
 public:
  virtual ~Transport() = default;

  using Ticket = size_t;
  // The spans must stay valid until the ticket is done. REQUIRES: 0 < size <= max_message_bytes().
  virtual Ticket send(LinkLane lane, int tag, Rank to, std::span<const std::byte> data) = 0;
  virtual Ticket receive(LinkLane lane, int tag, Rank from, std::span<std::byte> data) = 0;
  // Bytes moved if it is done (the ticket is then void); -1: the message was longer than the
  // buffer.
  virtual std::optional<int64_t> done(Ticket ticket) = 0;
  // Moves whatever can be moved. Called before each round of done(). Throws CommError when a peer
  // has failed.
  virtual void progress() = 0;

  virtual int64_t max_message_bytes() const { return int64_t{1} << 30; }
  // How often progress() is needed while nothing is queued; zero: never.
  virtual std::chrono::milliseconds idle_poll() const { return std::chrono::milliseconds(0); }
  // Called once by a transport that learns of arrivals without being asked, from any thread; null
  // detaches.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): those that override it keep it
  virtual void set_wake(std::function<void()> /*wake*/) {}
  // This rank has failed and will not call send, receive, done or progress again.
  virtual void abandon(const std::string& /*why*/) {}
};

}  // namespace strait
