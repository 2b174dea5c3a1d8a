// core/ops/math/fp8.h: small floating-point formats of one element, and the scale of a tile; the
// definition that every device follows.
//
// A format of E bits of exponent and M of mantissa has denormals and no infinities: all exponents
// hold numbers, all ones are NaN.
//   E4M3   OCP FP8 "fn", largest 448; bits equal to CUDA's own conversion
//   E5M6   12 bits, largest 129,024, for attention's output   Source: DeepSeek-V3 report, section
//          3.3.3, which names it; its special values are Strait's choice
#pragma once

#include <cstdint>
#include <cstring>

#include "core/ops/math/host_device.h"

namespace strait {

template <int kExponentBits, int kMantissaBits>
struct SmallFloat {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr uint32_t kSign = 1u << (kExponentBits + kMantissaBits), kNan = kSign - 1,
                            kMost = kSign - 2;
  static constexpr int kShift = 23 - kMantissaBits;  // from FP32's mantissa
  static constexpr uint32_t kRebias = (127u - kBias) << kMantissaBits;
  // As bits of FP32: the largest number, and the least that is no denormal.
  static constexpr uint32_t kMostBits = (kMost + kRebias) << kShift, kNormalBits = (128u - kBias)
                                                                                   << 23;

  // To nearest, ties to even; larger magnitudes (infinities too) become the largest; NaN stays NaN.
  STRAIT_HD static uint32_t encode(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t sign = (bits >> 31) * kSign;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return kNan;
    if (magnitude >= kMostBits) return sign | kMost;
    if (magnitude < kNormalBits) {
      float positive;
      memcpy(&positive, &magnitude, 4);
      const float magic = 8388608.0f;  // 2^23: the sum has no bits after the point
      return sign | static_cast<uint32_t>((positive * per_unit() + magic) - magic);
    }
    magnitude += (1u << (kShift - 1)) - 1 + (magnitude >> kShift & 1u);
    return sign | ((magnitude >> kShift) - kRebias);
  }
  STRAIT_HD static float decode(uint32_t code) {
    const uint32_t magnitude = code & (kSign - 1);
    uint32_t bits = (magnitude + kRebias) << kShift;
    if (magnitude == kNan) bits = 0x7fc00000u;
    float value;
    memcpy(&value, &bits, 4);
    if (magnitude < 1u << kMantissaBits) value = static_cast<float>(magnitude) / per_unit();
    return (code & kSign) != 0 ? -value : value;
  }
  // Of the denormals, which are whole numbers of 1 / per_unit().
  STRAIT_HD static constexpr float per_unit() {
    return static_cast<float>(1u << (kBias - 1 + kMantissaBits));
  }
};
using E4m3 = SmallFloat<4, 3>;
using E5m6 = SmallFloat<5, 6>;

constexpr float kE4m3Max = 448.0f, kE5m6Max = 129024.0f;

STRAIT_HD inline uint8_t to_e4m3(float value) { return static_cast<uint8_t>(E4m3::encode(value)); }
STRAIT_HD inline float from_e4m3(uint8_t code) { return E4m3::decode(code); }

// What a tile of values, whose largest magnitude is `max`, is divided by. A tile of zeros, or of
// what FP32 cannot divide any further, has scale 1.
STRAIT_HD inline float fp8_scale(float max) {
  const float scale = max / kE4m3Max;
  return scale > 0.0f ? scale : 1.0f;
}
// Rounded up to a power of two. REQUIRES: scale > 0.
STRAIT_HD inline float power_of_two_scale(float scale) {
  uint32_t bits;
  memcpy(&bits, &scale, 4);
  if (bits < 0x00800000u) return 0x1p-126f;  // denormals all become the least power that is none
  bits = (bits + 0x7fffffu) & 0x7f800000u;
  memcpy(&scale, &bits, 4);
  return scale;
}
STRAIT_HD inline float e5m6_scale(float max) {
  const float scale = max / kE5m6Max;
  return scale > 0.0f ? power_of_two_scale(scale) : 1.0f;
}
// Published quantisers take a smaller magnitude than this for it, in activations and weights.
// Gradients have no such floor: losses divided by global counts make them smaller than that.
// Source: DeepSeek-V3, inference/kernel.py.
constexpr float kLeastPublishedMax = 1e-4f;

// The upper half of an FP32.
STRAIT_HD inline float bf16_bits_to_float(uint16_t bf16) {
  const uint32_t bits = static_cast<uint32_t>(bf16) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

}  // namespace strait
