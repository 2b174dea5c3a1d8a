// core/ops/math/bf16.h: from FP32 to BF16; the definition that every device follows.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/ops/math/host_device.h"

namespace strait {

// To nearest, ties to even; NaN stays a (quiet) NaN.
STRAIT_HD inline uint16_t bf16_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : rounded);
}

}  // namespace strait
