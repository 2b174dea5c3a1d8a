#include "parallel/comm/watch_socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>

#include "core/errors.h"

namespace strait {
namespace {

using Clock = std::chrono::steady_clock;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  sockaddr_in& four() { return reinterpret_cast<sockaddr_in&>(storage); }
  sockaddr_in6& six() { return reinterpret_cast<sockaddr_in6&>(storage); }
};

std::optional<Address> address_of(const std::string& text, int port) {
  Address address;
  const auto network_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, text.c_str(), &address.four().sin_addr) == 1) {
    address.storage.ss_family = AF_INET;
    address.four().sin_port = network_port;
    address.size = sizeof(sockaddr_in);
  } else if (inet_pton(AF_INET6, text.c_str(), &address.six().sin6_addr) == 1) {
    address.storage.ss_family = AF_INET6;
    address.six().sin6_port = network_port;
    address.size = sizeof(sockaddr_in6);
  } else {
    return std::nullopt;
  }
  return address;
}

Descriptor new_socket(int family) {
  return Descriptor(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Descriptor bound_to(const char* text) {
  std::optional<Address> address = address_of(text, 0);
  Descriptor listener = new_socket(address->storage.ss_family);
  if (!listener) return {};
  const int off = 0;  // an IPv6 socket takes IPv4 connections as well
  if (address->storage.ss_family == AF_INET6)
    setsockopt(listener.number(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(listener.number(), address->get(), address->size) != 0) return {};
  return listener;
}

void send_at_once(const Descriptor& connection) {
  const int on = 1;
  setsockopt(connection.number(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// For poll(), never late by rounding.
int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

struct Network {
  uint32_t number = 0, mask = 0;  // IPv4, in network byte order
};

struct Interface {
  std::string address;
  std::optional<Network> network;
};

std::vector<Interface> interfaces() {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> list(first, freeifaddrs);
  std::vector<Interface> found;
  for (const ifaddrs* at = first; at != nullptr; at = at->ifa_next) {
    if (!at->ifa_addr || !(at->ifa_flags & IFF_UP) || (at->ifa_flags & IFF_LOOPBACK)) continue;
    char text[INET6_ADDRSTRLEN] = "";
    if (at->ifa_addr->sa_family == AF_INET && at->ifa_netmask) {
      const in_addr address = reinterpret_cast<const sockaddr_in*>(at->ifa_addr)->sin_addr;
      const in_addr mask = reinterpret_cast<const sockaddr_in*>(at->ifa_netmask)->sin_addr;
      inet_ntop(AF_INET, &address, text, sizeof text);
      found.push_back({text, Network{address.s_addr & mask.s_addr, mask.s_addr}});
    } else if (at->ifa_addr->sa_family == AF_INET6) {
      const in6_addr address = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr)->sin6_addr;
      if (IN6_IS_ADDR_LINKLOCAL(&address)) continue;
      inet_ntop(AF_INET6, &address, text, sizeof text);
      found.push_back({text, std::nullopt});
    }
  }
  return found;
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

Descriptor listen_on(bool loopback_only, int& port) {
  Descriptor listener;
  if (loopback_only) {
    listener = bound_to("127.0.0.1");
  } else {
    listener = bound_to("::");
    if (!listener) listener = bound_to("0.0.0.0");
  }
  Address bound;
  if (!listener || listen(listener.number(), SOMAXCONN) != 0 ||
      getsockname(listener.number(), bound.get(), &bound.size) != 0)
    throw CommError(fmt::format("[watch] cannot listen for the ranks: {}", std::strerror(errno)));
  port = ntohs(bound.storage.ss_family == AF_INET6 ? bound.six().sin6_port : bound.four().sin_port);
  return listener;
}

Descriptor accept_on(const Descriptor& listener) {
  Descriptor connection(accept4(listener.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (connection) send_at_once(connection);
  return connection;
}

Descriptor connect_to(const std::string& address, int port, Clock::time_point deadline) {
  std::optional<Address> to = address_of(address, port);
  if (!to) return {};
  Descriptor connection = new_socket(to->storage.ss_family);
  if (!connection) return {};
  if (connect(connection.number(), to->get(), to->size) != 0) {
    if (errno != EINPROGRESS) return {};
    pollfd writable{connection.number(), POLLOUT, 0};
    while (poll(&writable, 1, milliseconds_until(deadline)) < 0 && errno == EINTR) continue;
    int error = 0;
    socklen_t size = sizeof error;
    if (!(writable.revents & POLLOUT) ||
        getsockopt(connection.number(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
      return {};
  }
  send_at_once(connection);
  return connection;
}

void wait_to_read(const std::vector<int>& descriptors, Clock::time_point deadline) {
  std::vector<pollfd> watched;
  watched.reserve(descriptors.size());
  for (const int descriptor : descriptors) watched.push_back({descriptor, POLLIN, 0});
  poll(watched.data(), watched.size(), milliseconds_until(deadline));
}

std::vector<std::string> addresses_of_this_host() {
  std::vector<std::string> addresses;
  for (Interface& interface : interfaces()) addresses.push_back(std::move(interface.address));
  return addresses;
}

std::vector<std::string> nearest_first(std::vector<std::string> addresses) {
  const std::vector<Interface> mine = interfaces();
  std::stable_partition(addresses.begin(), addresses.end(), [&](const std::string& address) {
    in_addr four{};
    if (inet_pton(AF_INET, address.c_str(), &four) != 1) return false;
    return std::any_of(mine.begin(), mine.end(), [&](const Interface& interface) {
      const auto& network = interface.network;
      return network && (four.s_addr & network->mask) == network->number;
    });
  });
  return addresses;
}

}  // namespace strait
