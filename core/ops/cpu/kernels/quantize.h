// core/ops/cpu/kernels/quantize.h: parts of the quantisers of core/ops/quantize.h.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"

namespace strait::cpu {

// An FP8 matrix of `rows` x `cols`; scale of (r, c) at (c / 128) * scale_stride + r, or, of blocks,
// at (r / 128) * scale_stride + c / 128. Rows with their scales behind their codes: both in steps
// of `row_bytes`, the scale of (r, c) at c / 128 of its row's.
struct Fp8Rows {
  unsigned char* codes = nullptr;
  float* scales = nullptr;
  long rows = 0, cols = 0, scale_stride = 0;
  bool blocks = false;
  long row_bytes = 0;  // 0: codes and scales apart
};
// As QuantizeSettings.
struct ScaleRule {
  float least_max = 0;
  bool power_of_two = false;
};

}  // namespace strait::cpu

// Rows [begin, end). This one, quantize_blocks and quantize_e5m6 return
// whether all numbers are finite.
STRAIT_CPU_DECLARE(bool quantize_rows(Rows x, ScaleRule rule, Fp8Rows q, long begin, long end))
STRAIT_CPU_DECLARE(void dequantize(Fp8Rows q, Rows x, long begin, long end))
STRAIT_CPU_DECLARE(bool quantize_e5m6(Rows x, Fp8Rows q, long begin, long end))
STRAIT_CPU_DECLARE(void dequantize_e5m6(Fp8Rows q, Rows x, long begin, long end))
// Tiles [begin, end) of 128 x 128 of x, counted along its rows. `transposed` is of cols x rows.
STRAIT_CPU_DECLARE(void quantize_columns(Rows x, ScaleRule rule, Fp8Rows transposed, long begin,
                                         long end))
STRAIT_CPU_DECLARE(void requantize_columns(Fp8Rows x, ScaleRule rule, Fp8Rows transposed,
                                           long begin, long end))
// `rows` <= 128 rows from `row` by up to 128 columns from `col`, codes where x has its elements;
// `scales` [cols] is the row of scales of these tiles.
STRAIT_CPU_DECLARE(void quantize_columns_at(Rows x, ScaleRule rule, Fp8Rows q, float* scales,
                                            long row, long rows, long col))
STRAIT_CPU_DECLARE(void requantize_columns_at(Fp8Rows x, ScaleRule rule, Fp8Rows q, float* scales,
                                              long row, long rows, long col))
STRAIT_CPU_DECLARE(bool quantize_blocks(Rows x, ScaleRule rule, Fp8Rows q, long begin, long end))
