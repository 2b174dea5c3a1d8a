#include "parallel/comm/local.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "core/errors.h"

namespace strait {
namespace {

constexpr int64_t kInFlight = -2;

// One end of a message. `bytes` becomes the size (or -1: too long for the receiver) when it has
// been copied.
struct Post {
  std::byte* data = nullptr;
  size_t size = 0;
  std::atomic<int64_t> bytes{kInFlight};
};

}  // namespace

class LocalWorld::Hub {
 public:
  Hub(int num_ranks, std::vector<std::string> hosts, int64_t max_message_bytes)
      : hosts_(std::move(hosts)), max_message_bytes_(max_message_bytes) {
    STRAIT_CHECK(num_ranks > 0 && max_message_bytes > 0, "a world has at least one rank");
    if (hosts_.empty()) hosts_.assign(static_cast<size_t>(num_ranks), "localhost");
    STRAIT_CHECK(hosts_.size() == static_cast<size_t>(num_ranks), "one host name per rank");
    for (int rank = 0; rank < num_ranks; ++rank) boxes_.push_back(std::make_unique<Box>());
  }

  const std::vector<std::string>& hosts() const { return hosts_; }
  int64_t max_message_bytes() const { return max_message_bytes_; }

  // Both ends meet in the receiver's box. The copy is made under its lock, so that after fail() no
  // thread touches any buffer.
  void post(LinkLane lane, int tag, Rank from, Rank to, bool sends,
            const std::shared_ptr<Post>& mine) {
    Box& box = box_of(to);
    {
      std::lock_guard lock(box.mutex);
      if (box.closed) return;
      Ends& ends = box.ends[{lane, tag, from.value}];
      auto& theirs = sends ? ends.receives : ends.sends;
      if (theirs.empty()) {
        (sends ? ends.sends : ends.receives).push_back(mine);
        return;
      }
      const std::shared_ptr<Post> other = std::move(theirs.front());
      theirs.pop_front();
      Post& sender = sends ? *mine : *other;
      Post& receiver = sends ? *other : *mine;
      const bool fits = sender.size <= receiver.size;
      if (fits) std::memcpy(receiver.data, sender.data, sender.size);
      receiver.bytes.store(fits ? static_cast<int64_t>(sender.size) : -1,
                           std::memory_order_release);
      sender.bytes.store(static_cast<int64_t>(sender.size), std::memory_order_release);
    }
    wake(sends ? to : from);
  }

  void set_wake(Rank rank, std::function<void()> wake) {
    Box& box = box_of(rank);
    std::lock_guard lock(box.wake_mutex);
    box.wake = std::move(wake);
  }

  void fail(Rank rank, const std::string& why) {
    {
      std::lock_guard lock(failure_mutex_);
      if (first_failed_ >= 0) return;
      first_failed_ = rank.value;
      failure_ = "rank " + std::to_string(rank.value) + " failed: " + why;
    }
    for (const auto& box : boxes_) {
      std::lock_guard lock(box->mutex);
      box->closed = true;
      box->ends.clear();
    }
    failed_.store(true, std::memory_order_release);
    for (size_t other = 0; other < boxes_.size(); ++other) wake({static_cast<int>(other)});
  }

  void check() {
    if (!failed_.load(std::memory_order_acquire)) return;
    std::lock_guard lock(failure_mutex_);
    throw CommError(failure_);
  }

 private:
  struct Ends {
    std::deque<std::shared_ptr<Post>> sends, receives;
  };
  struct Box {
    std::mutex mutex;
    std::map<std::tuple<LinkLane, int, int>, Ends> ends;  // by lane, tag, sender
    bool closed = false;
    std::mutex wake_mutex;
    std::function<void()> wake;
  };

  Box& box_of(Rank rank) { return *boxes_[static_cast<size_t>(rank.value)]; }

  void wake(Rank rank) {
    Box& box = box_of(rank);
    std::lock_guard lock(box.wake_mutex);
    if (box.wake) box.wake();
  }

  std::vector<std::string> hosts_;
  const int64_t max_message_bytes_;
  std::vector<std::unique_ptr<Box>> boxes_;
  std::atomic<bool> failed_{false};
  std::mutex failure_mutex_;
  int first_failed_ = -1;
  std::string failure_;
};

namespace {

class LocalTransport : public Transport {
 public:
  LocalTransport(std::shared_ptr<LocalWorld::Hub> hub, Rank rank)
      : hub_(std::move(hub)), rank_(rank) {}

  Ticket send(LinkLane lane, int tag, Rank to, std::span<const std::byte> data) override {
    const Ticket ticket = open(const_cast<std::byte*>(data.data()), data.size());
    hub_->post(lane, tag, rank_, to, true, posts_[ticket]);
    return ticket;
  }

  Ticket receive(LinkLane lane, int tag, Rank from, std::span<std::byte> data) override {
    const Ticket ticket = open(data.data(), data.size());
    hub_->post(lane, tag, from, rank_, false, posts_[ticket]);
    return ticket;
  }

  std::optional<int64_t> done(Ticket ticket) override {
    const int64_t bytes = posts_[ticket]->bytes.load(std::memory_order_acquire);
    if (bytes == kInFlight) return std::nullopt;
    posts_[ticket].reset();
    free_.push_back(ticket);
    return bytes;
  }

  void progress() override { hub_->check(); }
  int64_t max_message_bytes() const override { return hub_->max_message_bytes(); }
  void set_wake(std::function<void()> wake) override { hub_->set_wake(rank_, std::move(wake)); }
  void abandon(const std::string& why) override { hub_->fail(rank_, why); }

 private:
  Ticket open(std::byte* data, size_t size) {
    if (free_.empty()) {
      free_.push_back(posts_.size());
      posts_.emplace_back();
    }
    const Ticket ticket = free_.back();
    free_.pop_back();
    posts_[ticket] = std::make_shared<Post>();
    posts_[ticket]->data = data;
    posts_[ticket]->size = size;
    return ticket;
  }

  const std::shared_ptr<LocalWorld::Hub> hub_;
  const Rank rank_;
  std::vector<std::shared_ptr<Post>> posts_;  // by ticket
  std::vector<Ticket> free_;
};

}  // namespace

LocalWorld::LocalWorld(int num_ranks, std::vector<std::string> hosts, int64_t max_message_bytes)
    : hub_(std::make_shared<Hub>(num_ranks, std::move(hosts), max_message_bytes)) {}

LocalWorld::~LocalWorld() = default;

int LocalWorld::size() const { return static_cast<int>(hub_->hosts().size()); }

std::unique_ptr<Comm> LocalWorld::comm(Rank rank) {
  return std::make_unique<Comm>(std::make_unique<LocalTransport>(hub_, rank), rank, hub_->hosts());
}

namespace {

bool is_comm_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const CommError&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace

void run_ranks(LocalWorld& world, const std::function<void(Rank, Comm&)>& fn) {
  // Kept until every thread has ended, because a rank's error is read by others too.
  std::mutex mutex;
  std::vector<std::exception_ptr> errors;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(world.size()));
  for (int rank = 0; rank < world.size(); ++rank)
    threads.emplace_back([&, rank] {
      const std::unique_ptr<Comm> comm = world.comm({rank});
      try {
        fn({rank}, *comm);
      } catch (...) {
        {
          std::lock_guard lock(mutex);
          errors.push_back(std::current_exception());
        }
        comm->fail(std::current_exception());
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (errors.empty()) return;
  // A rank that hears of the failure may be here before the one that failed.
  const auto cause = std::find_if_not(errors.begin(), errors.end(), is_comm_error);
  std::rethrow_exception(cause == errors.end() ? errors.front() : *cause);
}

void run_ranks(int num_ranks, const std::function<void(Rank, Comm&)>& fn) {
  LocalWorld world(num_ranks);
  run_ranks(world, fn);
}

}  // namespace strait
