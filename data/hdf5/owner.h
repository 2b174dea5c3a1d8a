// data/hdf5/owner.h: the one thread of this process that calls HDF5.
//
// The HDF5 library keeps its state in globals of its own and is not thread-safe, so whoever calls
// it has to agree with everyone else in the process. The owner is therefore found through
// of_process() instead of being passed in. The thread runs while somebody holds the pointer; every
// handle of data/hdf5/file.h does. H5dont_atexit() is called first: HDF5 1.10 crashes in its exit
// handler after a close that failed, for example on a full disk. HDF5's own printing of errors is
// off.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace strait::hdf5 {

class Owner {
 public:
  // The owner that all of the process shares; starts its thread if nobody holds it yet.
  // Thread-safe.
  static std::shared_ptr<Owner> of_process();

  ~Owner();  // REQUIRES: not called from its own thread
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  // Runs `work` on the owner thread, waits for it and rethrows what it throws. Calls from other
  // threads queue. A call from within `work` runs at once. Cost: one thread switch there and back
  // (some 10 us).
  void run(const std::function<void()>& work);

 private:
  Owner();
  void serve();

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void()>* work_ = nullptr;  // what is to run now
  bool finished_ = false;                        // work_ has run; its caller has not seen it yet
  bool stop_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace strait::hdf5
