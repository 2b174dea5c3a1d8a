// parallel/expert/routed_pool.h: the room for what routed experts keep from forward to backward.
//
// How many (row, expert) pairs a rank gets is decided by the router, so what its phases keep has no
// fixed size. The pool does: a multiple of the mean. A phase that does not fit keeps nothing; its
// rows are dispatched again in backward and its forward is run again. Nothing is dropped and
// nothing grows silently. Called from the compute thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/errors.h"

namespace strait {

class RoutedPool {
 public:
  RoutedPool() = default;
  // mean_pairs: of all phases that are kept at the same time, when every expert gets as many.
  // headroom 0: no limit.
  RoutedPool(int64_t mean_pairs, double headroom)
      : mean_(mean_pairs),
        limit_(static_cast<int64_t>(headroom * static_cast<double>(mean_pairs))) {}

  bool limited() const { return limit_ > 0; }
  // Room for a phase, until give_back(); false when there is none.
  bool take(int64_t pairs) {
    if (limited() && kept_ + pairs > limit_) {
      ++refused_;
      return false;
    }
    kept_ += pairs;
    fullest_ = std::max(fullest_, kept_);
    return true;
  }
  void give_back(int64_t pairs) {
    STRAIT_CHECK(pairs <= kept_, "a pool gets back what it gave");
    kept_ -= pairs;
  }

  // Since the last reset: the most that was kept, in multiples of the mean, and phases refused.
  double fullest() const {
    return mean_ > 0 ? static_cast<double>(fullest_) / static_cast<double>(mean_) : 0;
  }
  int64_t refused() const { return refused_; }
  void reset() {
    fullest_ = kept_;
    refused_ = 0;
  }

 private:
  int64_t mean_ = 0, limit_ = 0;
  int64_t kept_ = 0, fullest_ = 0, refused_ = 0;
};

}  // namespace strait
