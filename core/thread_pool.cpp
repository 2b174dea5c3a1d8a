#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "core/errors.h"

namespace strait {

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake, done;
  std::vector<std::thread> threads;
  bool stop = false;
  uint64_t generation = 0;  // of the current job
  int working = 0;          // workers inside the current job
  const std::function<void(int64_t, int64_t)>* body = nullptr;
  int64_t count = 0, grain = 1;
  std::atomic<int64_t> next{0};
  std::exception_ptr error;

  // `job` is what `body` was when this thread joined: the caller clears `body` while workers still
  // run their last chunks.
  void drain(const std::function<void(int64_t, int64_t)>& job) {
    for (;;) {
      const int64_t begin = next.fetch_add(grain);
      if (begin >= count) return;
      try {
        job(begin, std::min(count, begin + grain));
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next.store(count);
      }
    }
  }

  void join() {
    {
      std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void work() {
    uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return stop || (generation != seen && body != nullptr); });
      if (stop) return;
      seen = generation;
      ++working;
      const auto& job = *body;
      lock.unlock();
      drain(job);
      lock.lock();
      if (--working == 0) done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int num_threads)
    : num_threads_(std::max(1, num_threads)), state_(std::make_unique<State>()) {
  try {
    for (int index = 1; index < num_threads_; ++index)
      state_->threads.emplace_back([state = state_.get()] { state->work(); });
  } catch (const std::system_error& error) {
    const size_t started = state_->threads.size() + 1;
    state_->join();
    throw RecipeError("cannot start " + std::to_string(num_threads_) + " compute threads, only " +
                      std::to_string(started) + ": " + error.code().message());
  }
}

ThreadPool::~ThreadPool() { state_->join(); }

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t)>& body) {
  grain = std::max<int64_t>(1, grain);
  if (count <= 0) return;
  if (num_threads_ == 1 || count <= grain) {
    for (int64_t begin = 0; begin < count; begin += grain)
      body(begin, std::min(count, begin + grain));
    return;
  }
  State& state = *state_;
  {
    std::lock_guard lock(state.mutex);
    state.body = &body;
    state.count = count;
    state.grain = grain;
    state.next.store(0);
    state.error = nullptr;
    ++state.generation;
  }
  state.wake.notify_all();
  state.drain(body);
  std::unique_lock lock(state.mutex);
  // A worker that wakes up late sees body == nullptr and goes back to sleep.
  state.body = nullptr;
  state.done.wait(lock, [&] { return state.working == 0; });
  if (state.error) std::rethrow_exception(state.error);
}

int default_num_threads(int ranks_on_this_host) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  return std::max(1, cores / std::max(1, ranks_on_this_host));
}

}  // namespace strait
