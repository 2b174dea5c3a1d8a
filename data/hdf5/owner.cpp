#include "data/hdf5/owner.h"

#include <hdf5.h>

#include <utility>

namespace strait::hdf5 {

std::shared_ptr<Owner> Owner::of_process() {
  static std::mutex mutex;
  static std::weak_ptr<Owner> current;
  std::lock_guard lock(mutex);
  if (std::shared_ptr<Owner> owner = current.lock()) return owner;
  // A former owner may still be ending its thread; nobody holds it, so it makes no more calls.
  std::shared_ptr<Owner> owner(new Owner);
  current = owner;
  return owner;
}

Owner::Owner() {
  thread_ = std::thread([this] { serve(); });
}

Owner::~Owner() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Owner::serve() {
  H5dont_atexit();
  H5open();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || (work_ != nullptr && !finished_); });
    if (stop_) return;
    const std::function<void()>& work = *work_;
    lock.unlock();
    std::exception_ptr error;
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = std::move(error);
    finished_ = true;
    done_.notify_all();
  }
}

void Owner::run(const std::function<void()>& work) {
  if (std::this_thread::get_id() == thread_.get_id()) return work();
  std::exception_ptr error;
  {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return work_ == nullptr; });
    work_ = &work;
    wake_.notify_one();
    done_.wait(lock, [&] { return finished_ && work_ == &work; });
    error = std::exchange(error_, nullptr);
    work_ = nullptr;
    finished_ = false;
  }
  done_.notify_all();
  if (error) std::rethrow_exception(error);
}

}  // namespace strait::hdf5
