#include "core/ops/cuda/device.h"
#include "core/ops/cuda/kernels/quantize.cuh"

namespace strait::cuda {
namespace {

dim3 grid_of(int64_t rows, int64_t cols) {
  if (rows <= 0 || cols <= 0 || cols % 8 != 0) {
    throw InternalError("[quantize] a matrix of " + std::to_string(rows) + " x " +
                        std::to_string(cols) + "; rows are positive, columns a multiple of 8");
  }
  return {static_cast<unsigned>(ceil_div(cols, kTile)),
          static_cast<unsigned>(ceil_div(rows, kTile))};
}

}  // namespace

void quantize_rows(const QuantizeRows& call, cudaStream_t stream) {
  quantize_rows_kernel<<<grid_of(call.rows, call.cols), kQuantizeThreads, 0, stream>>>(call);
  STRAIT_CUDA_CALL(cudaGetLastError());
}

void quantize_blocks(const QuantizeBlocks& call, cudaStream_t stream) {
  quantize_blocks_kernel<<<grid_of(call.rows, call.cols), kQuantizeThreads, 0, stream>>>(call);
  STRAIT_CUDA_CALL(cudaGetLastError());
}

}  // namespace strait::cuda
