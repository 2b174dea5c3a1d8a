// core/ops/cuda/fp8_rows.h: rows that an op also, or only, gives in FP8: the codes and scales that
// quantize_rows of core/ops/quantize.h makes of the op's result, without a pass of its own.
#pragma once

#include <cstdint>

namespace strait::cuda {

struct Fp8Rows {
  uint8_t* codes = nullptr;  // [R, C] E4M3, or null: not wanted
  float* scales = nullptr;   // rows_1x128 of [R, C]
  float least_max = 0;       // as QuantizeSettings
  bool power_of_two = false;
};

}  // namespace strait::cuda
