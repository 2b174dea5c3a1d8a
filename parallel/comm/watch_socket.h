// parallel/comm/watch_socket.h: the few TCP calls of the watch. All sockets are non-blocking and
// not inherited by child processes.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace strait {

// Closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();

  int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

// Listens on `port`, chosen by the system; on the loopback interface alone or on all of them.
// Errors: CommError.
Descriptor listen_on(bool loopback_only, int& port);

// Empty: nobody is waiting.
Descriptor accept_on(const Descriptor& listener);

// Empty: not before the deadline.
Descriptor connect_to(const std::string& address, int port,
                      std::chrono::steady_clock::time_point deadline);

// Sleeps until there is something to read on one of them or the deadline has passed.
void wait_to_read(const std::vector<int>& descriptors,
                  std::chrono::steady_clock::time_point deadline);

// IPv4 and IPv6 addresses by which others may reach this host, as text.
std::vector<std::string> addresses_of_this_host();

// Those in a network of this host first, otherwise in the same order.
std::vector<std::string> nearest_first(std::vector<std::string> addresses);

}  // namespace strait
