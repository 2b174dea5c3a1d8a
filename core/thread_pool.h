// core/thread_pool.h: the worker threads of one rank.
//
// Work is handed out in chunks as threads become free, so a core that is taken away for a moment
// does not hold the others up. Threads that have nothing to do sleep; nothing spins for longer than
// a few microseconds, because ranks may outnumber cores. One parallel_for at a time per pool.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace strait {

class ThreadPool {
 public:
  // `num_threads` counts the caller, so 1 starts no thread. Throws RecipeError when the system
  // allows no such number.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(begin, end) for disjoint ranges that cover [0, count), each of at most `grain`
  // items. Which thread runs which range is not defined, so a result must not depend on it. Returns
  // when all are done; rethrows the first exception.
  void parallel_for(int64_t count, int64_t grain,
                    const std::function<void(int64_t begin, int64_t end)>& body);

 private:
  struct State;
  const int num_threads_;
  std::unique_ptr<State> state_;
};

// Cores this process may run on, divided by the ranks that share them; at least 1.
int default_num_threads(int ranks_on_this_host);

}  // namespace strait
