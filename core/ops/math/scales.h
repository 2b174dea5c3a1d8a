// core/ops/math/scales.h: where the FP32 scale of an FP8 element stands. An element's value is FP8
// * scale.
//
// There are two layouts on every device, both cuBLASLt's, of an operand of R rows and C columns (C
// is what the product sums over):
//   rows_1x128     one scale per row and 128 columns: [ceil(C/128)][R rounded up to 4]
//   blocks_128x128 one scale per 128 x 128 block:     [ceil(R/128)][ceil(C/128) rounded up to 4]
// and one that the CPU's weight gradients read without a transposition:
//   columns_128x1  one scale per 128 rows and column: [tiles][C rounded up to 4]; tiles are counted
//                  from the first row of each group of rows, whole and then a rest
// The rounding is part of the layout: without it cuBLASLt's results are wrong, silently, wherever
// ceil(C/128) % 4 != 0.
#pragma once

#include <cstdint>

#include "core/ops/math/host_device.h"

namespace strait {

constexpr int kScaleBlock = 128;

enum class ScaleLayout : uint8_t { rows_1x128, blocks_128x128, columns_128x1 };

constexpr const char* name_of(ScaleLayout layout) {
  return layout == ScaleLayout::rows_1x128       ? "1x128"
         : layout == ScaleLayout::blocks_128x128 ? "128x128"
                                                 : "128x1";
}

STRAIT_HD constexpr int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }
STRAIT_HD constexpr int64_t round_up(int64_t value, int64_t to) { return ceil_div(value, to) * to; }

// From one scale to the next along the layout's slow dimension.
STRAIT_HD constexpr int64_t scale_stride(ScaleLayout layout, int64_t rows, int64_t cols) {
  return round_up(layout == ScaleLayout::rows_1x128       ? rows
                  : layout == ScaleLayout::blocks_128x128 ? ceil_div(cols, kScaleBlock)
                                                          : cols,
                  4);
}

// Floats in the whole array, of columns_128x1 if the rows are one group.
STRAIT_HD constexpr int64_t num_scales(ScaleLayout layout, int64_t rows, int64_t cols) {
  return ceil_div(layout == ScaleLayout::rows_1x128 ? cols : rows, kScaleBlock) *
         scale_stride(layout, rows, cols);
}

STRAIT_HD constexpr int64_t scale_index(ScaleLayout layout, int64_t rows, int64_t cols, int64_t row,
                                        int64_t col) {
  return layout == ScaleLayout::rows_1x128
             ? col / kScaleBlock * scale_stride(layout, rows, cols) + row
             : row / kScaleBlock * scale_stride(layout, rows, cols) +
                   (layout == ScaleLayout::blocks_128x128 ? col / kScaleBlock : col);
}

}  // namespace strait
