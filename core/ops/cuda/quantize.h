// core/ops/cuda/quantize.h: BF16 matrices to E4M3 with the scales that the FP8 products read
// (core/ops/math/scales.h). The scale of a tile is its largest magnitude / 448 (a true division),
// and 1 for a tile of zeros; the bits are those of core/ops/math/fp8.h on any device. Thread-safe;
// enqueued on the stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace strait::cuda {

// Of x [R, C]; either half may be left out (null). One pass over x gives both.
struct QuantizeRows {
  const void* x = nullptr;  // [R, C] BF16
  int64_t rows = 0;         // REQUIRES: > 0
  int64_t cols = 0;         // REQUIRES: a positive multiple of 8
  // For products that sum over C (forward, input gradient): tiles of 1 x 128.
  uint8_t* q = nullptr;     // [R, C]
  float* scales = nullptr;  // rows_1x128 of [R, C]
  // For products that sum over R (weight gradient): tiles of 128 x 1, stored transposed.
  uint8_t* transposed = nullptr;       // [C, R]
  float* transposed_scales = nullptr;  // rows_1x128 of [C, R]
};

void quantize_rows(const QuantizeRows& call, cudaStream_t stream);

// Weights w [N, K]: tiles of 128 x 128, whose transpose (for the input gradient) is exact.
struct QuantizeBlocks {
  const void* x = nullptr;             // [R, C] BF16
  int64_t rows = 0;                    // REQUIRES: > 0
  int64_t cols = 0;                    // REQUIRES: a positive multiple of 8
  uint8_t* q = nullptr;                // [R, C]
  float* scales = nullptr;             // blocks_128x128 of [R, C]
  uint8_t* transposed = nullptr;       // [C, R]; may be null, with its scales
  float* transposed_scales = nullptr;  // blocks_128x128 of [C, R]
};

void quantize_blocks(const QuantizeBlocks& call, cudaStream_t stream);

}  // namespace strait::cuda
