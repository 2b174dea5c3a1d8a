#include "core/ops/math/fp8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace strait {
namespace {

// What a code stands for, from the definition: no bits of an implementation.
double number_of(uint32_t code, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto mantissa = static_cast<double>(code & ((1u << mantissa_bits) - 1));
  const int exponent = static_cast<int>(code >> mantissa_bits & ((1u << exponent_bits) - 1));
  const double whole = std::ldexp(mantissa, -mantissa_bits);
  const double number =
      exponent == 0 ? std::ldexp(whole, 1 - bias) : std::ldexp(1 + whole, exponent - bias);
  return code >> (exponent_bits + mantissa_bits) != 0 ? -number : number;
}

// The nearest of a format's numbers, of two as near the even code, found among all of them.
class Nearest {
 public:
  Nearest(int exponent_bits, int mantissa_bits)
      : most_((1u << (exponent_bits + mantissa_bits)) - 2) {
    for (uint32_t code = 0; code <= most_; ++code)
      numbers_.push_back(number_of(code, exponent_bits, mantissa_bits));
  }
  uint32_t code(double magnitude) const {
    const auto above = std::lower_bound(numbers_.begin(), numbers_.end(), magnitude);
    if (above == numbers_.end()) return most_;
    const auto high = static_cast<uint32_t>(above - numbers_.begin());
    if (high == 0) return 0;
    const double up = *above - magnitude, down = magnitude - *(above - 1);
    return up != down ? (up < down ? high : high - 1) : high % 2 == 0 ? high : high - 1;
  }

 private:
  uint32_t most_;
  std::vector<double> numbers_;
};

template <class Format, int kExponentBits, int kMantissaBits>
void check_format(double most) {
  constexpr uint32_t kSign = 1u << (kExponentBits + kMantissaBits);
  for (uint32_t code = 0; code < 2 * kSign; ++code) {
    const float value = Format::decode(code);
    if ((code & (kSign - 1)) == kSign - 1) {
      EXPECT_TRUE(std::isnan(value)) << code;
      continue;
    }
    ASSERT_EQ(value, number_of(code, kExponentBits, kMantissaBits)) << code;
    ASSERT_EQ(std::signbit(value), code >= kSign) << code;
    ASSERT_EQ(Format::encode(value), code);
  }
  EXPECT_EQ(Format::decode(kSign - 2), most);

  const Nearest nearest(kExponentBits, kMantissaBits);
  const auto check = [&](float value) {
    const uint32_t sign = std::signbit(value) ? kSign : 0;
    ASSERT_EQ(Format::encode(value), sign | nearest.code(std::fabs(static_cast<double>(value))))
        << value;
  };
  // Halfway between neighbours, and the FP32 numbers around it; every exponent of FP32.
  for (uint32_t code = 0; code + 2 < kSign; ++code) {
    const float low = Format::decode(code), high = Format::decode(code + 1);
    const float half = low + (high - low) / 2;
    for (const float value : {std::nextafter(half, low), half, std::nextafter(half, high)}) {
      check(value);
      check(-value);
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    float value;
    std::memcpy(&value, &bits, 4);
    if (!std::isnan(value)) check(value);
  }
  EXPECT_EQ(Format::encode(std::numeric_limits<float>::infinity()), kSign - 2);
  EXPECT_EQ(Format::encode(std::numeric_limits<float>::quiet_NaN()), kSign - 1);
  EXPECT_EQ(Format::encode(-std::numeric_limits<float>::quiet_NaN()), kSign - 1);
}

TEST(SmallFloat, E4m3IsNearestToEven) { check_format<E4m3, 4, 3>(448); }
TEST(SmallFloat, E5m6IsNearestToEven) { check_format<E5m6, 5, 6>(129024); }

TEST(Fp8Scale, DividesByTheLargestNumber) {
  EXPECT_EQ(fp8_scale(448), 1);
  EXPECT_EQ(fp8_scale(1), 1.0f / 448.0f);
  EXPECT_EQ(fp8_scale(0), 1);
  EXPECT_EQ(fp8_scale(std::numeric_limits<float>::denorm_min()),
            1);  // nothing is left to divide by
  EXPECT_EQ(e5m6_scale(129024), 1);
  EXPECT_EQ(e5m6_scale(0), 1);
}

TEST(Fp8Scale, PowerOfTwoIsTheNextOne) {
  for (const float scale : {1.0f, 1.5f, 0x1p-126f, 3e-39f, 7e37f, 0.1f, 448.0f}) {
    const float power = power_of_two_scale(scale);
    EXPECT_EQ(std::exp2(std::round(std::log2(double{power}))), power) << scale;
    EXPECT_GE(power, scale);
    if (scale >= 0x1p-126f) {
      EXPECT_LT(power / 2, scale);
    }
  }
}

}  // namespace
}  // namespace strait
