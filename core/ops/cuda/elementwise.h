// core/ops/cuda/elementwise.h: core/ops/elementwise.h on a GPU, with its bits.
#pragma once

#include <cuda_runtime_api.h>

#include "core/ops/cuda/rows.h"

namespace strait::cuda {

struct RowPair {
  Rows x, y;
  int64_t rows = 0, cols = 0;
};
// y = x, converted where the types differ. BF16 to BF16: 4 bytes per element.
void cast(const RowPair& call, cudaStream_t stream);
// y += x. BF16 to FP32: 10 bytes per element.
void add(const RowPair& call, cudaStream_t stream);

struct Fill {
  Rows x;
  int64_t rows = 0, cols = 0;
  float value = 0;
};
void fill(const Fill& call, cudaStream_t stream);

// Sum of x^2 in FP64, 4 bytes per FP32 element.
struct SumOfSquares {
  Rows x;  // one row
  int64_t numel = 0;
  double* partial = nullptr;  // sums_of_squares(numel) of them, used up
  double* sum = nullptr;      // overwritten
};
constexpr int64_t kElementsPerSquaresSum = 4096;
constexpr int64_t sums_of_squares(int64_t numel) {
  return (numel + kElementsPerSquaresSum - 1) / kElementsPerSquaresSum;
}
void sum_of_squares(const SumOfSquares& call, cudaStream_t stream);

}  // namespace strait::cuda
