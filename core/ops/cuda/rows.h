// core/ops/cuda/rows.h: a matrix of FP32 or BF16 in device memory, as the plain kernels take it.
//
// Kernels of any stem but grouped_gemm and attention are plain CUDA for all architectures, without
// atomics of floating-point numbers: their results depend on nothing but their operands, and those
// said to be the CPU's are so bit by bit. They are bound by memory: headers say bytes per element.
// Rows may start anywhere; those at multiples of 16 bytes are moved 16 bytes at a time.
// All calls are enqueued on the stream, wait for nothing, can be captured in graphs, and throw
// InternalError where an operand cannot be. Values in device memory (indices, ids) are not checked.
#pragma once

#include <cstdint>

namespace strait::cuda {

// Row r starts r * stride elements after data. BF16 or else FP32.
struct Rows {
  void* data = nullptr;
  int64_t stride = 0;
  bool bf16 = false;
};

}  // namespace strait::cuda
