#include "parallel/comm/watch_join.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <sstream>
#include <thread>

#include "core/errors.h"
#include "parallel/comm/exchange.h"
#include "parallel/comm/watch_socket.h"

namespace strait {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// For a stranger to show the token, for a wrong address to answer.
constexpr milliseconds kPatience{5000};

struct Invitation {
  std::string token = {}, answer = {};
  int port = 0;
  std::vector<std::string> addresses = {};  // of the host of rank 0
};

std::string random_token() {
  unsigned char bytes[16];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    throw CommError(fmt::format("[watch] no random numbers: {}", std::strerror(errno)));
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// Compares all characters whatever they are, so that the time taken says nothing.
bool same_token(const std::string& a, const std::string& b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

bool one_host(const Comm& comm) {
  const auto& hosts = comm.hosts();
  return std::all_of(hosts.begin(), hosts.end(), [&](const auto& h) { return h == hosts[0]; });
}

// ---- rank 0 ----

// Takes connections until every rank has shown the token.
class Door {
 public:
  Door(const Comm& comm, Descriptor listener, const Invitation& invitation)
      : comm_(comm),
        listener_(std::move(listener)),
        invitation_(invitation),
        joined_(static_cast<size_t>(comm.size())) {}

  std::vector<WatchPeer> wait(milliseconds limit) {
    const Clock::time_point deadline = Clock::now() + limit;
    while (missing() > 0) {
      if (Clock::now() >= deadline) give_up(limit);
      std::vector<int> descriptors{listener_.number()};
      for (const Stranger& stranger : strangers_) descriptors.push_back(stranger.link.descriptor());
      wait_to_read(descriptors, std::min(deadline, Clock::now() + milliseconds(500)));
      accept_all();
      listen_to_strangers();
      // Those who are in already must not take this rank for lost.
      for (auto& link : joined_)
        if (link) link->send({.kind = WatchMessage::Kind::beat});
    }
    std::vector<WatchPeer> peers;
    for (int rank = 1; rank < comm_.size(); ++rank)
      peers.push_back({{rank}, std::move(*joined_[static_cast<size_t>(rank)])});
    return peers;
  }

 private:
  struct Stranger {
    WatchLink link;
    Clock::time_point until;
  };

  int missing() const {
    return comm_.size() - 1 -
           static_cast<int>(
               std::count_if(joined_.begin(), joined_.end(), [](auto& link) { return !!link; }));
  }

  void accept_all() {
    while (Descriptor socket = accept_on(listener_))
      strangers_.push_back({WatchLink(std::move(socket)), Clock::now() + kPatience});
  }

  void listen_to_strangers() {
    std::vector<Stranger> remaining;
    for (Stranger& stranger : strangers_) {
      if (const std::optional<WatchMessage> hello = stranger.link.receive())
        greet(*hello, std::move(stranger.link));
      else if (!stranger.link.closed() && Clock::now() < stranger.until)
        remaining.push_back(std::move(stranger));
    }
    strangers_ = std::move(remaining);
  }

  void greet(const WatchMessage& hello, WatchLink link) {
    if (hello.kind != WatchMessage::Kind::hello || !same_token(hello.text, invitation_.token) ||
        hello.rank < 1 || hello.rank >= comm_.size())
      return;
    link.send({.kind = WatchMessage::Kind::welcome, .text = invitation_.answer});
    // A rank that lost patience with its first connection comes again.
    joined_[static_cast<size_t>(hello.rank)].emplace(std::move(link));
  }

  [[noreturn]] void give_up(milliseconds limit) {
    std::string ranks;
    for (size_t rank = 1; rank < joined_.size(); ++rank)
      if (!joined_[rank])
        ranks += fmt::format("{}{} ({})", ranks.empty() ? "" : ", ", rank, comm_.hosts()[rank]);
    const std::string why = fmt::format(
        "[watch] expected all ranks to connect to port {} of rank 0 ({}) within {} s, missing: {}",
        invitation_.port, comm_.hosts()[0], limit.count() / 1000, ranks);
    for (auto& link : joined_)
      if (link) link->send({.kind = WatchMessage::Kind::failed, .text = why});
    throw CommError(why);
  }

  const Comm& comm_;
  const Descriptor listener_;
  const Invitation& invitation_;
  std::vector<std::optional<WatchLink>> joined_;  // by rank
  std::vector<Stranger> strangers_;
};

// ---- the others ----

// A connection on which rank 0 has answered.
std::optional<WatchLink> try_address(const Comm& comm, const Invitation& invitation,
                                     const std::string& address, Clock::time_point deadline) {
  Descriptor connection = connect_to(address, invitation.port, deadline);
  if (!connection) return std::nullopt;
  WatchLink link(std::move(connection));
  link.send(
      {.kind = WatchMessage::Kind::hello, .rank = comm.rank().value, .text = invitation.token});
  while (Clock::now() < deadline && !link.closed()) {
    wait_to_read({link.descriptor()}, deadline);
    const std::optional<WatchMessage> message = link.receive();
    if (!message) continue;
    if (message->kind == WatchMessage::Kind::welcome &&
        same_token(message->text, invitation.answer))
      return link;
    break;
  }
  return std::nullopt;
}

WatchLink connect_to_rank_0(const Comm& comm, const Invitation& invitation, milliseconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  const bool same_host = comm.hosts()[0] == comm.hosts()[static_cast<size_t>(comm.rank().value)];
  const std::vector<std::string> addresses =
      same_host ? std::vector<std::string>{"127.0.0.1"} : nearest_first(invitation.addresses);
  while (Clock::now() < deadline) {
    for (const std::string& address : addresses)
      if (auto link =
              try_address(comm, invitation, address, std::min(deadline, Clock::now() + kPatience)))
        return std::move(*link);
    std::this_thread::sleep_for(milliseconds(200));
  }
  std::string tried;
  for (const std::string& address : addresses) tried += (tried.empty() ? "" : ", ") + address;
  throw CommError(fmt::format("[watch] rank {} ({}) cannot reach rank 0 ({}) on port {} of {}",
                              comm.rank().value,
                              comm.hosts()[static_cast<size_t>(comm.rank().value)], comm.hosts()[0],
                              invitation.port, tried.empty() ? "any address" : tried));
}

// ---- the invitation travels over the Comm ----

std::string written(const Invitation& invitation) {
  std::string text = fmt::format("{} {} {}", invitation.token, invitation.answer, invitation.port);
  for (const std::string& address : invitation.addresses) text += " " + address;
  return text;
}

Invitation read(const std::string& text) {
  Invitation invitation;
  std::istringstream words(text);
  words >> invitation.token >> invitation.answer >> invitation.port;
  for (std::string address; words >> address;) invitation.addresses.push_back(address);
  return invitation;
}

std::string broadcast_text(Comm& comm, std::string text) {
  const Channel host = comm.channel(LinkLane::host, comm.world());
  auto size = static_cast<int64_t>(text.size());
  host.enqueue(broadcast(host, 0, std::as_writable_bytes(std::span(&size, 1)))).wait();
  text.resize(static_cast<size_t>(size));
  host.enqueue(broadcast(host, 0, std::as_writable_bytes(std::span(text)))).wait();
  return text;
}

}  // namespace

std::vector<WatchPeer> join_watch(Comm& comm, milliseconds limit) {
  std::vector<WatchPeer> peers;
  if (comm.rank().value == 0) {
    Invitation invitation{.token = random_token(), .answer = random_token()};
    Descriptor listener = listen_on(one_host(comm), invitation.port);
    invitation.addresses = addresses_of_this_host();
    broadcast_text(comm, written(invitation));
    return Door(comm, std::move(listener), invitation).wait(limit);
  }
  const Invitation invitation = read(broadcast_text(comm, {}));
  peers.push_back({{0}, connect_to_rank_0(comm, invitation, limit)});
  return peers;
}

}  // namespace strait
