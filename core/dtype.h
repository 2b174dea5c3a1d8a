// core/dtype.h: element types and the one definition of BF16 rounding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace strait {

// e4m3 names what a product multiplies; tensors of such codes are u8.
enum class DType : uint8_t { f32, bf16, i32, i64, u16, u8, e4m3 };

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::u16:
      return 2;
    case DType::i64:
      return 8;
    case DType::u8:
    case DType::e4m3:
      return 1;
  }
  return 0;
}

const char* name_of(DType dtype);  // "f32", "bf16", ...

// A BF16 value: the upper half of an FP32. Kernels see arrays of uint16_t-sized bits.
struct bfloat16 {
  uint16_t bits = 0;
};

inline float to_float(bfloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

// Rounds to nearest, ties to even; NaN stays a (quiet) NaN.
inline bfloat16 to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<bfloat16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<uint16_t>() {
  return DType::u16;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}

}  // namespace strait
