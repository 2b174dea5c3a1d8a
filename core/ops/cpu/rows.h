// core/ops/cpu/rows.h: a matrix as the kernels see it. Plain types only: kernels include it.
#pragma once

namespace strait::cpu {

// FP32 or BF16 elements; row r starts r * stride elements after data.
struct Rows {
  void* data = nullptr;
  long stride = 0;
  bool bf16 = false;
};

// Row numbers, 32 or 64 bits wide.
struct Index {
  const void* data = nullptr;
  bool wide = false;
};

}  // namespace strait::cpu
