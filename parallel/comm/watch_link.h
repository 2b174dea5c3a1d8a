// parallel/comm/watch_link.h: one connection of the watch, and what is said on it. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/watch_socket.h"

namespace strait {

struct WatchMessage {
  enum class Kind : uint8_t {
    hello,     // to rank 0: `rank` joins; text is the token
    welcome,   // from rank 0: text is the answer to the token
    beat,      // step and text: where the sender is; reason, ranks: what it waits for, with whom
    lost,      // from rank 0: `rank` is lost; text: where it was; reason
    failed,    // `rank` stops; text says why
    bye,       // to rank 0: the sender has reached its good end
    all_left,  // from rank 0: all ranks have
  };
  Kind kind = Kind::beat;
  int32_t rank = 0;
  int64_t step = -1;
  std::string text = {}, reason = {};  // each cut at kMaxText
  std::vector<int32_t> ranks = {};     // at most kMaxRanks
  static constexpr size_t kMaxText = 4000, kMaxRanks = 1 << 15;
};

class WatchLink {
 public:
  // `socket` is connected and non-blocking.
  explicit WatchLink(Descriptor socket) : socket_(std::move(socket)) {}

  int descriptor() const { return socket_.number(); }
  // Never waits: what the socket does not take at once goes with a later send() or flush().
  void send(const WatchMessage& message);
  void flush();
  bool unsent() const { return !outgoing_.empty() && !closed_; }
  // The next message, if one has arrived whole.
  std::optional<WatchMessage> receive();
  // The other side has closed, vanished, or talks nonsense, and receive() has returned all it said.
  bool closed() const { return closed_; }
  // Says to the other side that nothing will follow.
  void finish();

 private:
  Descriptor socket_;
  std::string incoming_, outgoing_;
  bool closed_ = false;
};

}  // namespace strait
