// core/ops/cuda/grouped_gemm_fp8.h: the experts' FP8 matrix products on Hopper, with the number of
// rows of each expert read on the device: no wait on the host, and the launch can be captured in a
// graph.
//
// R rows of tokens, grouped by expert; each expert's rows start at a multiple of 128 and the rest
// of its last 128 is padding. E experts, N output features, K input features. E4M3 operands with
// FP32 scales (core/ops/math/scales.h), products of 128 summed on the tensor cores, scaled and
// summed in FP32 outside of them: full FP32 accumulation. Deterministic: an element depends on its
// row, its weight row and K alone, and is the same for every tile order. Thread-safe; enqueued on
// the stream.   Source: DeepSeek-V3 report, section 3.3.2; DeepGEMM's structure.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/ops/cuda/expert_blocks.h"

namespace strait::cuda {

// Forward and input gradient: y[r] = x[r] w[expert of r]^T, BF16. For the input gradient w is the
// transposed weight. Rows of padding give rows of y computed from whatever they hold.
struct GroupedGemmFp8 {
  int64_t rows = 0;  // R, of the buffers. REQUIRES: a multiple of 4
  int64_t n = 0;     // REQUIRES: a multiple of 8
  int64_t k = 0;     // REQUIRES: a multiple of 16
  int experts = 0;
  const void* x = nullptr;            // [R, K]
  const float* x_scales = nullptr;    // rows_1x128 of [R, K]
  const void* w = nullptr;            // [E, N, K]
  const float* w_scales = nullptr;    // E times blocks_128x128 of [N, K]
  void* y = nullptr;                  // [R, N] BF16
  const int* block_expert = nullptr;  // device: whose rows 128 b .. 128 b + 127 are
  const int* num_blocks =
      nullptr;      // device: blocks of 128 rows in use; rows past them are not written
  int num_sms = 0;  // at most so many multiprocessors; 0: all
};

// Throws InternalError where a requirement is not met.
void grouped_gemm_fp8(const GroupedGemmFp8& gemm, cudaStream_t stream);

// Weight gradient: dw[e] += sum over the expert's rows r of dy[r]^T x[r], FP32. Both operands are
// stored transposed, the rows along the columns: quantised along tokens. Padding must be zero. An
// expert without rows is left as it is.
struct GroupedWgradFp8 {
  int64_t rows = 0;  // R. REQUIRES: a multiple of 16
  int64_t m = 0;     // features of dy: dw's rows. REQUIRES: a multiple of 4
  int64_t n = 0;     // features of x: dw's columns. REQUIRES: a multiple of 4
  int experts = 0;
  const void* dy = nullptr;          // [M, R]
  const float* dy_scales = nullptr;  // rows_1x128 of [M, R]
  const void* x = nullptr;           // [N, R]
  const float* x_scales = nullptr;   // rows_1x128 of [N, R]
  float* dw = nullptr;               // [E, M, N], added to
  const int* first_block = nullptr;  // device, [E]: the expert's first block of 128 rows,
  const int* end_block = nullptr;    // and the one after its last
  int num_sms = 0;                   // as above
};

void grouped_wgrad_fp8(const GroupedWgradFp8& gemm, cudaStream_t stream);

// The plain twins: one thread an output element, no tensor cores; the same results up to the order
// of FP32 sums.
void grouped_gemm_fp8_plain(const GroupedGemmFp8& gemm, cudaStream_t stream);
void grouped_wgrad_fp8_plain(const GroupedWgradFp8& gemm, cudaStream_t stream);

}  // namespace strait::cuda
