// parallel/comm/event.h: the one type of completion.
//
// An Event is a handle to something that finishes once, well or with an exception; copies share it.
// All functions are thread-safe. Waiting sleeps on a condition variable, it never spins.
#pragma once

#include <exception>
#include <functional>
#include <memory>

namespace strait {

class Event {
 public:
  Event() = default;  // already done, well
  static Event failed(std::exception_ptr error);

  bool ready() const;                // done, well or not
  std::exception_ptr error() const;  // null while not done, or done well
  void wait() const;                 // sleeps until done; throws the exception it failed with
  // Calls `callback` with the error (null: done well) once: at once if done, else on the thread
  // that finishes the event. It must be quick and must not throw.
  void then(std::function<void(std::exception_ptr)> callback) const;

 private:
  friend class Completion;
  struct State;
  std::shared_ptr<State> state_;  // null: done well
};

// The writing end of an Event. The first finish() or fail() counts, later ones are ignored.
// Destroyed unfinished, it fails its event, so that nobody waits for ever.
class Completion {
 public:
  Completion();
  ~Completion();
  Completion(Completion&&) noexcept = default;
  Completion& operator=(Completion&&) = delete;

  Event event() const;
  void finish() { complete(nullptr); }
  void fail(const std::exception_ptr& error) { complete(error); }

 private:
  void complete(const std::exception_ptr& error);
  std::shared_ptr<Event::State> state_;
};

}  // namespace strait
