// The plain twins of grouped_gemm_fp8.cu: one thread, one element of the result. For comparison on
// the device.

#include <cuda_bf16.h>

#include "core/ops/cuda/device.h"
#include "core/ops/cuda/grouped_gemm_fp8.h"
#include "core/ops/math/fp8.h"
#include "core/ops/math/scales.h"

namespace strait::cuda {
namespace {

constexpr int kThreads = 128;

// Sum over columns [first, end) of a row of `a` times a row of `b`, block of 128 by block of 128.
struct Operand {
  const uint8_t* data;
  const float* scales;
  ScaleLayout layout;
  int64_t rows, cols;
};

__device__ float dot(const Operand& a, int64_t a_row, const Operand& b, int64_t b_row,
                     int64_t first, int64_t end) {
  float sum = 0;
  for (int64_t block = first; block < end; block += kScaleBlock) {
    float product = 0;
    for (int64_t k = block; k < min(block + kScaleBlock, end); k++) {
      product = fmaf(from_e4m3(a.data[a_row * a.cols + k]), from_e4m3(b.data[b_row * b.cols + k]),
                     product);
    }
    sum += a.scales[scale_index(a.layout, a.rows, a.cols, a_row, block)] *
           b.scales[scale_index(b.layout, b.rows, b.cols, b_row, block)] * product;
  }
  return sum;
}

__global__ void gemm_kernel(GroupedGemmFp8 gemm) {
  const int64_t row = blockIdx.y,
                column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= gemm.n || row >= static_cast<int64_t>(*gemm.num_blocks) * kExpertAlignment) return;
  const int expert = gemm.block_expert[row / kExpertAlignment];
  const Operand x{static_cast<const uint8_t*>(gemm.x), gemm.x_scales, ScaleLayout::rows_1x128,
                  gemm.rows, gemm.k};
  const Operand w{static_cast<const uint8_t*>(gemm.w) + expert * gemm.n * gemm.k,
                  gemm.w_scales + expert * num_scales(ScaleLayout::blocks_128x128, gemm.n, gemm.k),
                  ScaleLayout::blocks_128x128, gemm.n, gemm.k};
  static_cast<__nv_bfloat16*>(gemm.y)[row * gemm.n + column] =
      __float2bfloat16_rn(dot(x, row, w, column, 0, gemm.k));
}

__global__ void wgrad_kernel(GroupedWgradFp8 gemm) {
  const int64_t row = blockIdx.y,
                column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= gemm.n) return;
  const int expert = blockIdx.z;
  const Operand dy{static_cast<const uint8_t*>(gemm.dy), gemm.dy_scales, ScaleLayout::rows_1x128,
                   gemm.m, gemm.rows};
  const Operand x{static_cast<const uint8_t*>(gemm.x), gemm.x_scales, ScaleLayout::rows_1x128,
                  gemm.n, gemm.rows};
  const int64_t first = static_cast<int64_t>(gemm.first_block[expert]) * kScaleBlock;
  const int64_t end = min(static_cast<int64_t>(gemm.end_block[expert]) * kScaleBlock, gemm.rows);
  gemm.dw[(expert * gemm.m + row) * gemm.n + column] += dot(dy, row, x, column, first, end);
}

unsigned blocks_for(int64_t columns) { return static_cast<unsigned>(ceil_div(columns, kThreads)); }

}  // namespace

void grouped_gemm_fp8_plain(const GroupedGemmFp8& gemm, cudaStream_t stream) {
  gemm_kernel<<<dim3(blocks_for(gemm.n), static_cast<unsigned>(gemm.rows)), kThreads, 0, stream>>>(
      gemm);
  STRAIT_CUDA_CALL(cudaGetLastError());
}

void grouped_wgrad_fp8_plain(const GroupedWgradFp8& gemm, cudaStream_t stream) {
  const dim3 grid(blocks_for(gemm.n), static_cast<unsigned>(gemm.m),
                  static_cast<unsigned>(gemm.experts));
  wgrad_kernel<<<grid, kThreads, 0, stream>>>(gemm);
  STRAIT_CUDA_CALL(cudaGetLastError());
}

}  // namespace strait::cuda
