// core/context.h: what every op is given: where to run, where memory comes from, and what it adds to
// the bill. One Context per rank; ops are called from its compute thread only.
#pragma once

#include <memory>
#include <utility>

#include "core/tensor.h"
#include "core/thread_pool.h"

namespace strait {

// Work of one op, by its definition (not by how a kernel does it): a multiply-add is two FLOPs, bytes
// are each operand read or written once.
struct Cost {
  double flops = 0;
  double bytes = 0;
};

class Context {
 public:
  Context(Device device, int num_threads)
      : device_(device), memory_(std::make_shared<Memory>(device)), pool_(num_threads) {}

  Device device() const { return device_; }
  Memory& memory() { return *memory_; }
  ThreadPool& pool() { return pool_; }
  const Cost& spent() const { return spent_; }
  void reset_spent() { spent_ = {}; }

  Tensor empty(Shape shape, DType dtype, Purpose purpose) {
    return Tensor(memory_, shape, dtype, purpose);
  }
  Tensor zeros(Shape shape, DType dtype, Purpose purpose);

  // Every op ends in one call of run: it bills the cost and, unless the device is `meta`, runs the kernel.
  template <class Kernel>
  void run(const Cost& cost, Kernel&& kernel) {
    spent_.flops += cost.flops;
    spent_.bytes += cost.bytes;
    if (device_ == Device::cpu) std::forward<Kernel>(kernel)();
  }

 private:
  const Device device_;
  std::shared_ptr<Memory> memory_;
  ThreadPool pool_;
  Cost spent_;
};

}  // namespace strait
