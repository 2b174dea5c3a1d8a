#include "parallel/comm/event.h"

#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "core/errors.h"

namespace strait {

struct Event::State {
  mutable std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr error;
  std::vector<std::function<void(std::exception_ptr)>> callbacks;
};

Event Event::failed(std::exception_ptr error) {
  Completion completion;
  completion.fail(std::move(error));
  return completion.event();
}

bool Event::ready() const {
  if (!state_) return true;
  std::lock_guard lock(state_->mutex);
  return state_->done;
}

std::exception_ptr Event::error() const {
  if (!state_) return nullptr;
  std::lock_guard lock(state_->mutex);
  return state_->error;
}

void Event::wait() const {
  if (!state_) return;
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->done; });
  if (state_->error) std::rethrow_exception(state_->error);
}

void Event::then(std::function<void(std::exception_ptr)> callback) const {
  if (!state_) return callback(nullptr);
  std::unique_lock lock(state_->mutex);
  if (!state_->done) {
    state_->callbacks.push_back(std::move(callback));
    return;
  }
  const std::exception_ptr error = state_->error;
  lock.unlock();
  callback(error);
}

Completion::Completion() : state_(std::make_shared<Event::State>()) {}

Completion::~Completion() {
  if (!state_) return;
  {
    std::lock_guard lock(state_->mutex);
    if (state_->done) return;
  }
  fail(std::make_exception_ptr(CommError("[event] dropped before it was finished")));
}

Event Completion::event() const {
  Event event;
  event.state_ = state_;
  return event;
}

void Completion::complete(const std::exception_ptr& error) {
  std::vector<std::function<void(std::exception_ptr)>> callbacks;
  {
    std::lock_guard lock(state_->mutex);
    if (state_->done) return;
    state_->done = true;
    state_->error = error;
    callbacks.swap(state_->callbacks);
    // Under the lock: a waiter may drop the last other handle as soon as it is let go.
    state_->changed.notify_all();
  }
  for (const auto& callback : callbacks) callback(error);
}

}  // namespace strait
