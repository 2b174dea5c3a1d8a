#include "parallel/comm/watch.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "core/errors.h"
#include "parallel/comm/watch_join.h"

namespace strait {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Kind = WatchMessage::Kind;

// For the last words to reach the others: a process that ends with unread input resets its
// connections, and what it has said last may be lost.
constexpr milliseconds kLastWords{300};
constexpr size_t kMaxTask = 200;

struct Place {
  int64_t step = -1;
  std::string task;
  std::string transfer;        // that the task waits for; empty: it runs
  std::vector<int32_t> ranks;  // that take part in it; none: all

  bool waits_for(int rank) const {
    return !transfer.empty() && (ranks.empty() || std::ranges::find(ranks, rank) != ranks.end());
  }
};

// "rank 3", "ranks 0, 1 and 126 more".
std::string ranks_text(const std::vector<int32_t>& ranks) {
  if (ranks.empty()) return "all ranks";
  constexpr size_t kNamed = 8;
  const size_t named = std::min(kNamed, ranks.size());
  std::string text =
      fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s",
                  fmt::join(ranks.begin(), ranks.begin() + std::ptrdiff_t(named), ", "));
  if (named < ranks.size()) text += fmt::format(" and {} more", ranks.size() - named);
  return text;
}

std::string text_of(const Place& place) {
  if (place.step < 0) return place.task.empty() ? "before the first step" : place.task;
  std::string text = fmt::format("at step {}", place.step);
  if (!place.task.empty() && place.task != place.transfer) text += ", task " + place.task;
  if (!place.transfer.empty())
    text += fmt::format(", waiting for {} with {}", place.transfer, ranks_text(place.ranks));
  return text;
}

struct Peer {
  Rank rank;
  WatchLink link;
  Clock::time_point heard;
  Place place;
  bool left = false;
};

enum class End {
  none,   // watching
  good,   // all have called close()
  lost,   // a peer is lost
  told,   // a peer has told why it stops
  asked,  // abandon() here
};

}  // namespace

// Peers belong to the thread of the watch once it runs, the rest to the mutex.
struct Watch::State {
  State(Comm& the_comm, WatchSettings the_settings)
      : comm(the_comm), settings(std::move(the_settings)) {}

  Comm& comm;
  const WatchSettings settings;
  const int exceptions = std::uncaught_exceptions();
  std::vector<Peer> peers;
  Descriptor wake;
  std::thread thread;

  mutable std::mutex mutex;
  std::condition_variable changed;
  Place place;
  bool leaving = false;             // close() has been called
  std::optional<std::string> asks;  // abandon() has been called, with this reason
  End end = End::none;
  bool finished = false;      // the thread is through
  std::string line;           // of lost: the error; of told: the error
  std::string why;            // of told: the reason the peer gave
  int first_failed = -1;      // of asked: the rank that failed first for the same reason
  bool speaks = false;        // of lost: this rank is the one that prints
  bool said_goodbye = false;  // of the thread
  Clock::duration
      stopped{};           // of the thread: for how long it did not run, where that was too long,
  Clock::time_point woke;  // and when it went on

  bool hub() const { return comm.rank().value == 0; }
  std::string name(int rank) const {
    return fmt::format("rank {} ({})", rank, comm.hosts()[static_cast<size_t>(rank)]);
  }

  std::string own_place() const {
    std::lock_guard lock(mutex);
    return text_of(place);
  }

  void signal() const { eventfd_write(wake.number(), 1); }
  void run();
  bool look();  // one round; true when it is over
  void wait(Clock::time_point until);
  void handle(Peer& peer, const WatchMessage& message);
  void tell_all(const WatchMessage& message, const Peer* but = nullptr);
  void last_words(int silent = -1);
  void on_lost(int lost, const std::string& where, const std::string& reason);
  std::string others_waiting_for(int lost) const;
  void on_told(int failed, const std::string& reason);
  bool on_asked();
  bool speaks_for_lost(int lost) const;
  void finish(End how);
};

void Watch::State::finish(End how) {
  std::lock_guard lock(mutex);
  if (end == End::none) end = how;
}

void Watch::State::tell_all(const WatchMessage& message, const Peer* but) {
  for (Peer& peer : peers)
    if (&peer != but) peer.link.send(message);
}

// Says nothing more and listens until the others, without `silent`, have closed or the time is
// over.
void Watch::State::last_words(int silent) {
  const Clock::time_point until = Clock::now() + kLastWords;
  for (Peer& peer : peers) peer.link.finish();
  for (;;) {
    std::vector<int> open;
    for (Peer& peer : peers) {
      while (const auto message = peer.link.receive()) {
        // Rank 0 has the last word on who failed first, so that exactly one rank prints it.
        if (hub() || message->kind != Kind::failed) continue;
        std::lock_guard lock(mutex);
        if (asks && message->text == *asks && first_failed < 0) first_failed = message->rank;
      }
      if (!peer.link.closed() && peer.rank.value != silent) open.push_back(peer.link.descriptor());
    }
    if (open.empty() || Clock::now() >= until) return;
    wait_to_read(open, until);
  }
}

// The lowest survivor that can know it. Without rank 0 the others no longer know who is alive: one
// rank per host speaks.
bool Watch::State::speaks_for_lost(int lost) const {
  if (lost == comm.rank().value) return false;  // it was stopped, and the others have said so
  if (lost != 0) return hub();
  const auto& hosts = comm.hosts();
  for (int rank = 1; rank < comm.rank().value; ++rank)
    if (hosts[static_cast<size_t>(rank)] == hosts[static_cast<size_t>(comm.rank().value)])
      return false;
  return true;
}

// What rank 0 has heard of them.
std::string Watch::State::others_waiting_for(int lost) const {
  constexpr int kNamed = 4;
  std::string text;
  int waiting = 0;
  for (const Peer& peer : peers) {
    if (peer.rank.value == lost || !peer.place.waits_for(lost) || ++waiting > kNamed) continue;
    text += fmt::format("{} {} in {}", waiting == 1 ? "" : ",", name(peer.rank.value),
                        peer.place.transfer);
  }
  if (waiting == 0) return "";
  if (waiting > kNamed) text += fmt::format(" and {} more", waiting - kNamed);
  return fmt::format("; waiting for rank {}, too:{}", lost, text);
}

void Watch::State::on_lost(int lost, const std::string& where, const std::string& reason) {
  std::string text;
  {
    std::lock_guard lock(mutex);
    text = fmt::format("lost {} {}: {}; {} was {}{}", name(lost), where, reason,
                       name(comm.rank().value), text_of(place), others_waiting_for(lost));
    line = text;
    speaks = speaks_for_lost(lost);
    end = End::lost;
  }
  if (hub()) tell_all({.kind = Kind::lost, .rank = lost, .text = where, .reason = reason});
  if (speaks && settings.on_loss) settings.on_loss(text);
  last_words(lost);
  comm.fail(std::make_exception_ptr(CommError(text)));
}

void Watch::State::on_told(int failed, const std::string& reason) {
  std::string text = fmt::format("{} failed: {}", name(failed), reason);
  {
    std::lock_guard lock(mutex);
    line = text;
    why = reason;
    end = End::told;
  }
  if (hub()) tell_all({.kind = Kind::failed, .rank = failed, .text = reason});
  last_words();
  comm.fail(std::make_exception_ptr(CommError(text)));
}

// True if abandon() has been called.
bool Watch::State::on_asked() {
  std::string reason;
  {
    std::lock_guard lock(mutex);
    if (!asks) return false;
    reason = *asks;
    end = End::asked;
  }
  tell_all({.kind = Kind::failed, .rank = comm.rank().value, .text = reason});
  last_words();
  return true;
}

void Watch::State::handle(Peer& peer, const WatchMessage& message) {
  peer.heard = Clock::now();
  switch (message.kind) {
    case Kind::beat:
      peer.place = {message.step, message.text, message.reason, message.ranks};
      return;
    case Kind::bye:
      peer.left = true;
      return;
    case Kind::failed: {
      const int failed = hub() ? peer.rank.value : message.rank;
      if (failed >= 0 && failed < comm.size()) on_told(failed, message.text);
      return;
    }
    case Kind::lost:
      if (!hub() && message.rank >= 0 && message.rank < comm.size())
        on_lost(message.rank, message.text, message.reason);
      return;
    case Kind::all_left:
      if (!hub()) finish(End::good);
      return;
    case Kind::hello:
    case Kind::welcome:
      return;
  }
}

void Watch::State::wait(Clock::time_point until) {
  std::vector<pollfd> watched{{wake.number(), POLLIN, 0}};
  for (const Peer& peer : peers) {
    const int events = peer.link.unsent() ? POLLIN | POLLOUT : POLLIN;
    watched.push_back({peer.link.descriptor(), static_cast<short>(events), 0});
  }
  const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
  poll(watched.data(), watched.size(), static_cast<int>(std::max<int64_t>(0, left)));
  eventfd_t ignored;
  if (watched[0].revents & POLLIN) eventfd_read(wake.number(), &ignored);
}

// Reads what the peers say and looks for losses.
bool Watch::State::look() {
  if (on_asked()) return true;
  const auto over = [&] {
    std::lock_guard lock(mutex);
    return end != End::none;
  };
  for (Peer& peer : peers) {
    peer.link.flush();
    while (const auto message = peer.link.receive()) {
      handle(peer, *message);
      if (over()) return true;
    }
    std::string reason;
    // Closed by peers that have given this rank up. Not so long after: where the whole machine
    // stood still, nobody was given up, and a later loss is one.
    if (peer.link.closed() && stopped.count() > 0 && Clock::now() - woke < settings.silence) {
      on_lost(comm.rank().value, own_place(),
              fmt::format("it was stopped for {:.1f} s",
                          std::chrono::duration<double>(stopped).count()));
      return true;
    }
    if (peer.link.closed())
      reason = "its connection closed";
    else if (Clock::now() - peer.heard > settings.silence)
      reason = fmt::format("silent for {:.1f} s",
                           std::chrono::duration<double>(Clock::now() - peer.heard).count());
    if (!reason.empty()) {
      on_lost(peer.rank.value, text_of(peer.place), reason);
      return true;
    }
  }
  {
    std::lock_guard lock(mutex);
    if (!leaving) return false;
  }
  if (!hub()) {
    if (!said_goodbye) tell_all({.kind = Kind::bye, .rank = comm.rank().value});
    said_goodbye = true;
    return false;
  }
  if (!std::all_of(peers.begin(), peers.end(), [](const Peer& peer) { return peer.left; }))
    return false;
  tell_all({.kind = Kind::all_left});
  finish(End::good);
  last_words();
  return true;
}

void Watch::State::run() {
  Clock::time_point last = Clock::now(), next_beat = last;
  for (;;) {
    const Clock::time_point now = Clock::now();
    // When this process itself was stopped for a while nobody else is to blame.
    if (now - last > 2 * settings.heartbeat + std::chrono::seconds(1))
      for (Peer& peer : peers) peer.heard += now - last;
    if (now - last > settings.silence) {
      stopped = now - last;
      woke = now;
    }
    last = now;
    if (look()) break;
    if (now >= next_beat) {
      next_beat = now + settings.heartbeat;
      WatchMessage beat{.kind = Kind::beat, .rank = comm.rank().value};
      {
        std::lock_guard lock(mutex);
        beat.step = place.step;
        beat.text = place.task;
        beat.reason = place.transfer;
        beat.ranks = place.ranks;
      }
      tell_all(beat);
    }
    wait(next_beat);
  }
  peers.clear();
  std::lock_guard lock(mutex);
  finished = true;
  changed.notify_all();
}

Watch::Watch(Comm& comm, WatchSettings settings)
    : state_(std::make_unique<State>(comm, std::move(settings))) {
  if (comm.size() == 1) {
    state_->finished = true;
    return;
  }
  state_->wake = Descriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!state_->wake) throw CommError("[watch] no file descriptor is left");
  for (WatchPeer& peer : join_watch(comm, state_->settings.connect))
    state_->peers.push_back({peer.rank, std::move(peer.link), Clock::now(), {}});
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

Watch::~Watch() {
  State& state = *state_;
  if (std::uncaught_exceptions() > state.exceptions || state.comm.failure()) {
    abandon("it stopped on an error");
  } else {
    try {
      close();
    } catch (const CommError&) {  // the Comm has failed with it
    }
  }
  if (state.thread.joinable()) state.thread.join();
}

void Watch::set_task(int64_t step, std::string_view task) {
  std::lock_guard lock(state_->mutex);
  state_->place.step = step;
  state_->place.task.assign(task.substr(0, kMaxTask));
  state_->place.transfer.clear();
  state_->place.ranks.clear();
}

void Watch::set_wait(int64_t step, std::string_view task, std::string_view transfer,
                     const std::vector<Rank>& ranks) {
  std::lock_guard lock(state_->mutex);
  Place& place = state_->place;
  place.step = step;
  place.task.assign(task.substr(0, kMaxTask));
  place.transfer.assign(transfer.substr(0, kMaxTask));
  place.ranks.clear();
  for (const Rank rank : ranks) place.ranks.push_back(rank.value);
}

std::string Watch::place() const {
  std::lock_guard lock(state_->mutex);
  if (state_->place.step < 0) return "";
  return fmt::format("{} at step {}: ", state_->name(state_->comm.rank().value),
                     state_->place.step);
}

void Watch::close() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (!state.finished) {
    state.leaving = true;
    state.signal();
    state.changed.wait(lock, [&] { return state.finished; });
  }
  if (state.end == End::lost || state.end == End::told) throw CommError(state.line);
}

bool Watch::abandon(const std::string& why) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (!state.finished) {
    if (!state.asks) state.asks = why.substr(0, WatchMessage::kMaxText);
    state.signal();
    state.changed.wait(lock, [&] { return state.finished; });
  }
  switch (state.end) {
    case End::none:
    case End::good:
      return true;
    case End::lost:
      if (why.find(state.line) == std::string::npos) return true;  // an error of this rank's own
      return state.speaks && !state.settings.on_loss;
    case End::told:
      return why.find(state.line) == std::string::npos && why != state.why;
    case End::asked:
      return state.first_failed < 0 || state.first_failed == state.comm.rank().value;
  }
  return true;
}

bool Watch::lost() const {
  std::lock_guard lock(state_->mutex);
  return state_->end == End::lost || state_->end == End::told;
}

}  // namespace strait
