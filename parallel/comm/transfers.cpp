#include "parallel/comm/transfers.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"

namespace strait {

void Transfers::send(int peer, std::span<const std::byte> data) {
  const auto most = static_cast<size_t>(channel_.max_message_bytes());
  while (!data.empty()) {
    const auto piece = data.first(std::min(most, data.size()));
    data = data.subspan(piece.size());
    pending_.push_back({.ticket = channel_.send(peer, piece),
                        .bytes = static_cast<int64_t>(piece.size()),
                        .peer = peer,
                        .receives = false});
  }
}

void Transfers::receive(int peer, std::span<std::byte> data) {
  const auto most = static_cast<size_t>(channel_.max_message_bytes());
  while (!data.empty()) {
    const auto piece = data.first(std::min(most, data.size()));
    data = data.subspan(piece.size());
    pending_.push_back({.ticket = channel_.receive(peer, piece),
                        .bytes = static_cast<int64_t>(piece.size()),
                        .peer = peer,
                        .receives = true});
  }
}

bool Transfers::poll() {
  for (size_t i = 0; i < pending_.size();) {
    const Pending& pending = pending_[i];
    const std::optional<int64_t> bytes = channel_.done(pending.ticket);
    if (!bytes) {
      ++i;
      continue;
    }
    if (pending.receives && *bytes != pending.bytes)
      throw CommError(fmt::format("[{}] rank {} expected {} bytes from rank {} on lane {}, got {}",
                                  what_, channel_.group()[channel_.self()].value, pending.bytes,
                                  channel_.group()[pending.peer].value, name_of(channel_.lane()),
                                  *bytes < 0 ? "more" : std::to_string(*bytes)));
    pending_[i] = pending_.back();
    pending_.pop_back();
  }
  return pending_.empty();
}

}  // namespace strait
