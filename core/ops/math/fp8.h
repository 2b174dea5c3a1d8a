// core/ops/math/fp8.h: FP8 E4M3 (OCP "fn": no infinities, largest 448) of one element, and the
// scale of a tile; the definition that every device follows. Bits equal to CUDA's own conversion.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/ops/math/host_device.h"

namespace strait {

constexpr float kE4m3Max = 448.0f;

// What a tile of values, whose largest magnitude is `max`, is divided by. A tile of zeros has
// scale 1.
STRAIT_HD inline float fp8_scale(float max) { return max > 0.0f ? max / kE4m3Max : 1.0f; }

// To nearest, ties to even; magnitudes over 448 (infinities too) become 448; NaN stays NaN.
STRAIT_HD inline uint8_t to_e4m3(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 24 & 0x80u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7f;
  if (magnitude >= 0x43e00000u) return static_cast<uint8_t>(sign | 0x7e);  // 448
  if (magnitude < 0x3c800000u) {  // 2^-6: below it, multiples of 2^-9
    float positive;
    memcpy(&positive, &magnitude, 4);
    const float magic = 8388608.0f;  // 2^23: the sum has no bits after the point
    return static_cast<uint8_t>(sign | static_cast<uint32_t>((positive * 512.0f + magic) - magic));
  }
  magnitude += 0x7ffffu + (magnitude >> 20 & 1u);  // 3 bits of mantissa stay
  return static_cast<uint8_t>(sign |
                              ((magnitude >> 20) - (120u << 3)));  // exponent's bias: 127 becomes 7
}

STRAIT_HD inline float from_e4m3(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24, exponent = code >> 3 & 15u,
                 mantissa = code & 7u;
  uint32_t bits = sign | (exponent + 120u) << 23 | mantissa << 20;
  if ((code & 0x7fu) == 0x7fu) bits = 0x7fc00000u;
  float value;
  memcpy(&value, &bits, 4);
  if (exponent == 0) {
    value = static_cast<float>(mantissa) * 0x1p-9f;
    if (sign != 0) value = -value;
  }
  return value;
}

// The upper half of an FP32.
STRAIT_HD inline float bf16_bits_to_float(uint16_t bf16) {
  const uint32_t bits = static_cast<uint32_t>(bf16) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

}  // namespace strait
