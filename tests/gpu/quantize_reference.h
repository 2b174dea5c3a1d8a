// tests/gpu/quantize_reference.h: matrices to quantise and the plainest way to do it.
#pragma once

#include <random>
#include <vector>

#include "core/dtype.h"
#include "core/ops/cuda/quantize.h"
#include "core/ops/math/fp8.h"
#include "core/ops/math/scales.h"

namespace strait::cuda {

// What a quantiser gives; poison in scales that stand for nothing.
struct Quantized {
  std::vector<uint8_t> q, transposed;
  std::vector<float> scales, transposed_scales;

  Quantized(int64_t rows, int64_t cols, ScaleLayout layout)
      : q(rows * cols, 0xee),
        transposed(rows * cols, 0xee),
        scales(num_scales(layout, rows, cols), -7.0f),
        transposed_scales(num_scales(layout, cols, rows), -7.0f) {}
  bool operator==(const Quantized&) const = default;
};

// BF16 of all magnitudes that the format rounds differently, with bands of zeros and of tiny
// numbers.
inline std::vector<uint16_t> matrix_to_quantize(int64_t rows, int64_t cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<uint16_t> x(rows * cols);
  for (auto& value : x) {
    const float magnitude = std::ldexp(static_cast<float>(static_cast<int>(engine() % 2001) - 1000),
                                       static_cast<int>(engine() % 20) - 10);
    value = to_bfloat16(magnitude).bits;
  }
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < cols; c++) {
      uint16_t& value = x[r * cols + c];
      if (r / 128 == 1 || c / 128 == 1) value = 0;
      if (r % 16 == 3 || c / 128 == 2)
        value = to_bfloat16(bf16_bits_to_float(value) * 0x1p-125f).bits;
    }
  }
  return x;
}

// Tiles of tile_rows x tile_cols of x.
inline void quantize_tiles(const std::vector<uint16_t>& x, int64_t rows, int64_t cols,
                           int64_t tile_rows, int64_t tile_cols, ScaleLayout layout, bool transpose,
                           std::vector<uint8_t>& q, std::vector<float>& scales) {
  for (int64_t row = 0; row < rows; row += tile_rows) {
    for (int64_t col = 0; col < cols; col += tile_cols) {
      const int64_t row_end = std::min(row + tile_rows, rows),
                    col_end = std::min(col + tile_cols, cols);
      float max = 0;
      for (int64_t r = row; r < row_end; r++) {
        for (int64_t c = col; c < col_end; c++)
          max = std::max(max, std::fabs(bf16_bits_to_float(x[r * cols + c])));
      }
      const float scale = max == 0 ? 1.0f : max / 448.0f;
      scales[transpose ? scale_index(layout, cols, rows, col, row)
                       : scale_index(layout, rows, cols, row, col)] = scale;
      for (int64_t r = row; r < row_end; r++) {
        for (int64_t c = col; c < col_end; c++) {
          q[transpose ? c * rows + r : r * cols + c] =
              to_e4m3(bf16_bits_to_float(x[r * cols + c]) / scale);
        }
      }
    }
  }
}

inline Quantized quantized_rows(const std::vector<uint16_t>& x, int64_t rows, int64_t cols) {
  Quantized result(rows, cols, ScaleLayout::rows_1x128);
  quantize_tiles(x, rows, cols, 1, 128, ScaleLayout::rows_1x128, false, result.q, result.scales);
  quantize_tiles(x, rows, cols, 128, 1, ScaleLayout::rows_1x128, true, result.transposed,
                 result.transposed_scales);
  return result;
}

inline Quantized quantized_blocks(const std::vector<uint16_t>& x, int64_t rows, int64_t cols) {
  Quantized result(rows, cols, ScaleLayout::blocks_128x128);
  quantize_tiles(x, rows, cols, 128, 128, ScaleLayout::blocks_128x128, false, result.q,
                 result.scales);
  quantize_tiles(x, rows, cols, 128, 128, ScaleLayout::blocks_128x128, true, result.transposed,
                 result.transposed_scales);
  return result;
}

struct QuantizeSize {
  int64_t rows, cols;
};
constexpr QuantizeSize kQuantizeSizes[] = {{1, 8}, {128, 128}, {130, 136}, {300, 576}, {257, 264}};

}  // namespace strait::cuda
