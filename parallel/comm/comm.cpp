#include "parallel/comm/comm.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "core/errors.h"
#include "parallel/mesh/mesh.h"

namespace strait {
namespace {

using Clock = std::chrono::steady_clock;

// A wake-up costs 6 to 10 us of CPU: once a millisecond is under 1% of a core per waiting rank.
constexpr auto kBurst = std::chrono::microseconds(50);
constexpr auto kShortestSleep = std::chrono::microseconds(200);
constexpr auto kLongestSleep = std::chrono::microseconds(1000);

std::string what_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "unknown exception";
  }
}

// Ranks per node if the members form runs of that many (a power of two) on two nodes or more; else
// 0.
int regular_ranks_per_node(const Group& group, const std::vector<int>& node_of_rank) {
  const auto node = [&](int position) {
    return node_of_rank[static_cast<size_t>(group[position].value)];
  };
  int run = 1;
  while (run < group.size() && node(run) == node(0)) ++run;
  if (run == group.size() || group.size() % run != 0 || (run & (run - 1)) != 0) return 0;
  std::vector<int> seen;
  for (int position = 0; position < group.size(); ++position) {
    if (position % run != 0) {
      if (node(position) != node(position - 1)) return 0;
      continue;
    }
    for (const int other : seen)
      if (other == node(position)) return 0;
    seen.push_back(node(position));
  }
  return run;
}

}  // namespace

const char* name_of(LinkLane lane) {
  switch (lane) {
    case LinkLane::near:
      return "near";
    case LinkLane::far:
      return "far";
    case LinkLane::pipe:
      return "pipe";
    case LinkLane::shard:
      return "shard";
    case LinkLane::host:
      return "host";
  }
  return "?";
}

struct Comm::Queued {
  OperationPtr operation;
  std::vector<Event> after;
  Completion completion;
  bool started = false;
  bool watching = false;  // after.back() will signal
};

struct Comm::State {
  std::mutex mutex;
  std::condition_variable wake, given_up_changed;
  std::array<std::deque<std::unique_ptr<Queued>>, kNumLinkLanes> queues;
  bool signalled = false;
  bool stop = false;
  std::exception_ptr failure;
  bool given_up = false;  // the communication thread has seen the failure and dropped everything
  std::array<std::atomic<int64_t>, kNumLinkLanes> same_node{}, other_nodes{};

  // Of the communication thread.
  uint64_t moved = 0;  // counts messages finished and calls of poll_again
  bool active = false;
  Clock::time_point burst_end;
  std::chrono::microseconds sleep = kShortestSleep;

  void signal() {
    std::lock_guard lock(mutex);
    signalled = true;
    wake.notify_one();
  }
};

Channel::Channel(Comm& comm, LinkLane lane, const Group& group)
    : comm_(&comm),
      lane_(lane),
      group_(std::make_shared<const Group>(group)),
      ranks_per_node_(regular_ranks_per_node(group, comm.node_of_rank_)) {}

Event Channel::enqueue(OperationPtr operation, std::vector<Event> after) const {
  return comm_->enqueue(lane_, std::move(operation), std::move(after));
}

Transport::Ticket Channel::send(int peer, std::span<const std::byte> data) const {
  auto& sent = same_node(peer) ? comm_->state_->same_node : comm_->state_->other_nodes;
  sent[static_cast<size_t>(lane_)].fetch_add(static_cast<int64_t>(data.size()),
                                             std::memory_order_relaxed);
  return comm_->transport_->send(lane_, group_->tag(), (*group_)[peer], data);
}

Transport::Ticket Channel::receive(int peer, std::span<std::byte> data) const {
  return comm_->transport_->receive(lane_, group_->tag(), (*group_)[peer], data);
}

std::optional<int64_t> Channel::done(Transport::Ticket ticket) const {
  const std::optional<int64_t> bytes = comm_->transport_->done(ticket);
  if (bytes) ++comm_->state_->moved;
  return bytes;
}

void Channel::poll_again() const { ++comm_->state_->moved; }

int64_t Channel::max_message_bytes() const { return comm_->transport_->max_message_bytes(); }

bool Channel::same_node(int peer) const {
  const auto node = [&](Rank rank) {
    return comm_->node_of_rank_[static_cast<size_t>(rank.value)];
  };
  return node((*group_)[peer]) == node(comm_->rank_);
}

Comm::Comm(std::unique_ptr<Transport> transport, Rank rank, std::vector<std::string> hosts)
    : rank_(rank),
      hosts_(std::move(hosts)),
      nodes_(hosts_),
      node_of_rank_(nodes_of(hosts_, static_cast<int>(hosts_.size()))),
      transport_(std::move(transport)),
      state_(std::make_shared<State>()) {
  STRAIT_CHECK(rank.value >= 0 && rank.value < size(), "a Comm needs the host of every rank");
  transport_->set_wake([state = state_] { state->signal(); });
  thread_ = std::thread([this] { run(); });
}

Comm::~Comm() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->signal();
  thread_.join();
  transport_->set_wake(nullptr);
}

void Comm::group_nodes(int ranks_per_node) {
  if (ranks_per_node < 1 || size() % ranks_per_node != 0)
    throw RecipeError("--ranks-per-node: " + std::to_string(size()) +
                      " ranks do not fill nodes of " + std::to_string(ranks_per_node));
  for (size_t rank = 0; rank < nodes_.size(); ++rank)
    nodes_[rank] = "node " + std::to_string(rank / static_cast<size_t>(ranks_per_node));
  node_of_rank_ = nodes_of(nodes_, size());
}

WorldGroup Comm::world() const {
  std::vector<Rank> ranks;
  ranks.reserve(static_cast<size_t>(size()));
  for (int other = 0; other < size(); ++other) ranks.push_back({other});
  return {std::move(ranks), rank_};
}

Event Comm::enqueue(LinkLane lane, OperationPtr operation, std::vector<Event> after) {
  auto queued = std::make_unique<Queued>();
  queued->operation = std::move(operation);
  queued->after = std::move(after);
  Event event = queued->completion.event();
  std::lock_guard lock(state_->mutex);
  if (state_->failure) return Event::failed(state_->failure);
  state_->queues[static_cast<size_t>(lane)].push_back(std::move(queued));
  state_->signalled = true;
  state_->wake.notify_one();
  return event;
}

void Comm::fail(std::exception_ptr error) {
  std::unique_lock lock(state_->mutex);
  if (!state_->failure) state_->failure = std::move(error);
  state_->signalled = true;
  state_->wake.notify_one();
  if (std::this_thread::get_id() == thread_.get_id()) return;
  state_->given_up_changed.wait(lock, [&] { return state_->given_up; });
}

std::exception_ptr Comm::failure() const {
  std::lock_guard lock(state_->mutex);
  return state_->failure;
}

LaneBytes Comm::bytes_sent(LinkLane lane) const {
  const auto index = static_cast<size_t>(lane);
  return {.same_node = state_->same_node[index].load(std::memory_order_relaxed),
          .other_nodes = state_->other_nodes[index].load(std::memory_order_relaxed)};
}

void Comm::run() {
  State& state = *state_;
  for (;;) {
    {
      std::lock_guard lock(state.mutex);
      if (state.stop && !state.failure) {
        const bool pending = [&] {
          for (size_t lane = 0; lane < kNumLinkLanes; ++lane)
            if (current_[lane] || !state.queues[lane].empty()) return true;
          return false;
        }();
        if (!pending) return;
        state.failure =
            std::make_exception_ptr(CommError("[comm] closed while operations were pending"));
      }
    }
    if (failure()) return give_up();
    bool progressed = false;
    try {
      const uint64_t moved_before = state.moved;
      state.active = false;
      transport_->progress();
      for (size_t lane = 0; lane < kNumLinkLanes; ++lane)
        progressed |= advance(static_cast<LinkLane>(lane), state.active);
      progressed |= state.moved != moved_before;
    } catch (...) {
      std::lock_guard lock(state.mutex);
      if (!state.failure) state.failure = std::current_exception();
      continue;
    }
    pause(progressed);
  }
}

// Runs the lane as far as it goes now. Sets `active` if its head has started and has to be polled
// again.
bool Comm::advance(LinkLane lane, bool& active) {
  std::unique_ptr<Queued>& current = current_[static_cast<size_t>(lane)];
  bool progressed = false;
  for (;;) {
    if (!current) {
      std::lock_guard lock(state_->mutex);
      auto& queue = state_->queues[static_cast<size_t>(lane)];
      if (queue.empty()) return progressed;
      current = std::move(queue.front());
      queue.pop_front();
    }
    if (!current->started) {
      while (!current->after.empty()) {
        const Event& event = current->after.back();
        if (!event.ready() && !current->watching) {
          current->watching = true;
          event.then([state = state_](const std::exception_ptr&) { state->signal(); });
        }
        if (!event.ready()) return progressed;
        if (const std::exception_ptr error = event.error()) std::rethrow_exception(error);
        current->watching = false;
        current->after.pop_back();
      }
      current->started = true;
      progressed = true;
    }
    if (!current->operation->poll()) {
      active = true;
      return progressed;
    }
    current->operation.reset();  // before anyone may free what it refers to
    current->completion.finish();
    current.reset();
    progressed = true;
  }
}

// Drops everything that is pending and fails its events, then waits for the end of the Comm.
void Comm::give_up() {
  State& state = *state_;
  const std::exception_ptr error = failure();
  transport_->abandon(what_of(error));
  std::vector<std::unique_ptr<Queued>> dropped;
  for (auto& current : current_)
    if (current) dropped.push_back(std::move(current));
  std::unique_lock lock(state.mutex);
  for (auto& queue : state.queues) {
    for (auto& queued : queue) dropped.push_back(std::move(queued));
    queue.clear();
  }
  lock.unlock();
  for (auto& queued : dropped) {
    queued->operation.reset();
    queued->completion.fail(error);
  }
  lock.lock();
  state.given_up = true;
  state.given_up_changed.notify_all();
  state.wake.wait(lock, [&] { return state.stop; });
}

void Comm::pause(bool progressed) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (!state.active) {
    const auto signalled = [&] { return state.signalled; };
    if (const auto idle_poll = transport_->idle_poll(); idle_poll.count() > 0)
      state.wake.wait_for(lock, idle_poll, signalled);
    else
      state.wake.wait(lock, signalled);
    state.signalled = false;
    return;
  }
  const Clock::time_point now = Clock::now();
  if (progressed || state.signalled) {
    state.signalled = false;
    state.burst_end = now + kBurst;
    state.sleep = kShortestSleep;
    return;
  }
  if (now < state.burst_end) {
    lock.unlock();
    std::this_thread::yield();
    return;
  }
  state.wake.wait_for(lock, state.sleep, [&] { return state.signalled; });
  state.sleep = std::min(kLongestSleep, state.sleep * 3 / 2);
}

}  // namespace strait
