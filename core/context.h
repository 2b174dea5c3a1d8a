// core/context.h: what every op is given: where to run, where memory comes from, and what it adds
// to the bill. One Context per rank; ops are called from its compute thread only.
#pragma once

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "core/thread_pool.h"

namespace strait {

// Ops of one class meet the same limits of a machine, and a precision is chosen per class.
enum class OpClass : uint8_t {
  other,      // element-wise, norms, sums, the router's choice, the optimizer
  permute,    // rows copied into another order
  linear,     // one GEMM
  expert,     // grouped GEMM: one weight per expert
  attention,  // softmax(Q K^T) V
};

// A product with a weight: rows [rows, in] -> [rows, out], or the weight's gradient from both.
struct GemmSize {
  int64_t groups = 1;  // weights; each works on its part of the rows
  int64_t rows = 0;    // over all groups
  int64_t in = 0, out = 0;
  bool weight_gradient = false;
};

// Work of one op, by its definition (not by how a kernel does it): a multiply-add is two FLOPs,
// bytes are each operand read or written once.
struct Cost {
  double flops = 0;
  double bytes = 0;
  OpClass op_class = OpClass::other;
  DType operands = DType::f32;  // what GEMM or attention multiplies; sums are FP32
  GemmSize gemm = {};           // of linear and expert
  double again_flops = 0;       // not billed: what known kernels compute twice rather than keep
};

class Context {
 public:
  Context(Device device, int num_threads)
      : device_(device), memory_(std::make_shared<Memory>(device)), pool_(num_threads) {}

  // The same memory for ops of another thread, with that thread alone; its bill is its own.
  std::unique_ptr<Context> for_other_thread() const {
    return std::unique_ptr<Context>(new Context(device_, memory_));
  }

  Device device() const { return device_; }
  Memory& memory() { return *memory_; }
  ThreadPool& pool() { return pool_; }
  const Cost& spent() const { return spent_; }
  void reset_spent() { spent_ = {}; }
  // Appends each op's cost to `ops` from now on; null: nobody listens.
  void record_ops(std::vector<Cost>* ops) { recorded_ = ops; }

  Tensor empty(Shape shape, DType dtype, Purpose purpose) {
    return Tensor(memory_, shape, dtype, purpose);
  }
  Tensor zeros(Shape shape, DType dtype, Purpose purpose);

  // For quantisers, from any thread: something they were given is not finite.
  void note_not_finite() { not_finite_.store(true, std::memory_order_relaxed); }
  // Whether that happened since the last call.
  bool take_not_finite() { return not_finite_.exchange(false, std::memory_order_relaxed); }

  // Every op ends in one call of run: it bills the cost and, unless the device is `meta`, runs the
  // kernel.
  template <class Kernel>
  void run(const Cost& cost, Kernel&& kernel) {
    spent_.flops += cost.flops;
    spent_.bytes += cost.bytes;
    if (recorded_ != nullptr) recorded_->push_back(cost);
    if (device_ == Device::cpu) std::forward<Kernel>(kernel)();
  }

 private:
  Context(Device device, std::shared_ptr<Memory> memory)
      : device_(device), memory_(std::move(memory)), pool_(1) {}

  const Device device_;
  std::shared_ptr<Memory> memory_;
  ThreadPool pool_;
  Cost spent_;  // FLOPs and bytes only
  std::vector<Cost>* recorded_ = nullptr;
  std::atomic<bool> not_finite_{false};
};

}  // namespace strait
