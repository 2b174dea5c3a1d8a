#include "parallel/comm/watch_link.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

namespace strait {
namespace {

// On the wire, little-endian: kind 1, rank 4, step 8, size of text 2, size of reason 2, number of
// ranks 2; then text, reason and 4 bytes a rank.
constexpr size_t kHeader = 19;

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T get(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// The message at the front, removed from `bytes`; nothing if it is not whole. `valid` is cleared if
// it is none.
std::optional<WatchMessage> take(std::string& bytes, bool& valid) {
  if (bytes.size() < kHeader) return std::nullopt;
  const auto kind = get<uint8_t>(bytes, 0);
  const size_t text = get<uint16_t>(bytes, 13), reason = get<uint16_t>(bytes, 15);
  const size_t ranks = get<uint16_t>(bytes, 17), size = kHeader + text + reason + 4 * ranks;
  valid = kind <= static_cast<uint8_t>(WatchMessage::Kind::all_left) &&
          text <= WatchMessage::kMaxText && reason <= WatchMessage::kMaxText &&
          ranks <= WatchMessage::kMaxRanks;
  if (!valid || bytes.size() < size) return std::nullopt;
  WatchMessage message{.kind = static_cast<WatchMessage::Kind>(kind),
                       .rank = get<int32_t>(bytes, 1),
                       .step = get<int64_t>(bytes, 5),
                       .text = bytes.substr(kHeader, text),
                       .reason = bytes.substr(kHeader + text, reason)};
  for (size_t rank = 0; rank < ranks; ++rank)
    message.ranks.push_back(get<int32_t>(bytes, size - 4 * (ranks - rank)));
  bytes.erase(0, size);
  return message;
}

}  // namespace

void WatchLink::send(const WatchMessage& message) {
  const auto text = std::string_view(message.text).substr(0, WatchMessage::kMaxText);
  const auto reason = std::string_view(message.reason).substr(0, WatchMessage::kMaxText);
  put(outgoing_, static_cast<uint8_t>(message.kind));
  put(outgoing_, message.rank);
  put(outgoing_, message.step);
  put(outgoing_, static_cast<uint16_t>(text.size()));
  const size_t ranks = std::min(message.ranks.size(), WatchMessage::kMaxRanks);
  put(outgoing_, static_cast<uint16_t>(reason.size()));
  put(outgoing_, static_cast<uint16_t>(ranks));
  outgoing_ += text;
  outgoing_ += reason;
  for (size_t rank = 0; rank < ranks; ++rank) put(outgoing_, message.ranks[rank]);
  flush();
}

void WatchLink::flush() {
  while (unsent()) {
    const ssize_t sent = ::send(descriptor(), outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      outgoing_.erase(0, static_cast<size_t>(sent));
    } else if (errno != EINTR) {
      // A broken connection shows in receive(), after what the other side has said last.
      if (errno != EAGAIN && errno != EWOULDBLOCK) outgoing_.clear();
      return;
    }
  }
}

std::optional<WatchMessage> WatchLink::receive() {
  std::array<char, 4096> buffer;
  while (!closed_) {
    bool valid = true;
    if (std::optional<WatchMessage> message = take(incoming_, valid)) return message;
    const ssize_t got = valid ? recv(descriptor(), buffer.data(), buffer.size(), 0) : 0;
    if (got > 0)
      incoming_.append(buffer.data(), static_cast<size_t>(got));
    else if (got == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK))
      closed_ = true;
    else if (errno != EINTR)
      break;
  }
  return std::nullopt;
}

void WatchLink::finish() { shutdown(descriptor(), SHUT_WR); }

}  // namespace strait
