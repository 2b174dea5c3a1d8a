// core/ops/cuda/tensor_map.h: what TMA needs to know of a matrix in device memory.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace strait::cuda {

enum class TmaType : uint8_t { e4m3, bf16, f32 };

// A row-major matrix, and the box of it that one TMA instruction moves. Reading outside of the
// matrix gives zeros, writing there does nothing.
struct TmaMatrix {
  TmaType type = TmaType::e4m3;
  const void* data = nullptr;      // REQUIRES: a multiple of 16 bytes
  int64_t rows = 0, cols = 0;      // REQUIRES: > 0, and cols * size of an element a multiple of 16
  int box_rows = 0, box_cols = 0;  // REQUIRES: 1..256
  // The swizzle in shared memory that is as wide as a row of the box. REQUIRES: 64 or 128 bytes.
  bool swizzle = false;
};

// Throws InternalError, naming the field, where a requirement is not met, and DeviceError where
// there is no driver.
CUtensorMap make_tensor_map(const TmaMatrix& matrix);

}  // namespace strait::cuda
