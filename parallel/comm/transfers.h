// parallel/comm/transfers.h: a set of messages in flight on one channel; what the collectives are
// made of.
#pragma once

#include <string>
#include <vector>

#include "parallel/comm/comm.h"

namespace strait {

// The bytes of a span of plain values.
template <class T>
std::span<std::byte> bytes_of(std::span<T> values) {
  return std::as_writable_bytes(values);
}
template <class T>
std::span<const std::byte> bytes_of(std::span<const T> values) {
  return std::as_bytes(values);
}

// Of the communication thread. Empty spans send no message: both sides know the size. A span longer
// than the backend's largest message travels in pieces.
class Transfers {
 public:
  // `what` names the operation in error messages.
  Transfers(Channel channel, std::string what)
      : channel_(std::move(channel)), what_(std::move(what)) {}

  void send(int peer, std::span<const std::byte> data);
  void receive(int peer, std::span<std::byte> data);
  // True when all are done. Throws CommError if a message does not have the size of its span.
  bool poll();

 private:
  struct Pending {
    Transport::Ticket ticket;
    int64_t bytes;
    int peer;
    bool receives;
  };
  Channel channel_;
  std::string what_;
  std::vector<Pending> pending_;
};

}  // namespace strait
