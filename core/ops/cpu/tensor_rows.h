// core/ops/cpu/tensor_rows.h: from tensors to what the CPU kernels take.
#pragma once

#include <algorithm>

#include "core/ops/cpu/rows.h"
#include "core/tensor.h"

namespace strait::cpu {

// The matrix view of a tensor; all zero when it is undefined.
inline Rows rows_of(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.raw(), tensor.row_stride(), tensor.dtype() == DType::bf16};
}

// The same rows from `elements` further on.
inline Rows advance(Rows rows, int64_t elements) {
  rows.data = static_cast<char*>(rows.data) + elements * (rows.bf16 ? 2 : 4);
  return rows;
}

inline Index index_of(const Tensor& tensor) { return {tensor.raw(), tensor.dtype() == DType::i64}; }

// Rows per chunk of a parallel loop: about 16 K elements, some microseconds of work.
inline int64_t row_grain(int64_t cols) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, cols));
}

}  // namespace strait::cpu
