// core/ops/math/accumulator.h: a model of how Hopper's tensor cores sum FP8 products, for studies
// of its error. Nothing that Strait trains with goes through it: its own FP8 products are summed in
// FP32.
//
// The model. 32 products of E4M3 codes and the accumulator are one sum of 33 addends: all are
// shifted to the largest exponent among them, cut there to `addend_bits` bits after the point
// towards zero, and added exactly; the sum is cut towards zero to the accumulator's `register_bits`
// bits after the leading one. Where the claims come from:
//   32 products at a time, to the largest exponent, cut; about 14 bits   DeepSeek-V3 report, 3.5.2
//   13 bits after the point; registers of 1 sign, 8 exponent and 13 mantissa bits
//                                         "Insights into DeepSeek-V3", arXiv 2505.09343, 3.1.1
//   the accumulator is aligned with the products; a product's exponent is the sum of its factors',
//   1.875 * 1.875 = 3.5 has exponent 0; both cuts are towards zero       MMA-Sim, arXiv 2511.10909,
//                                         which found random WGMMAs on an H100 to equal that
// The step to FP32 ("promotion", below) is the report's remedy, section 3.3.2.
// Strait has not compared the model with a GPU, but with MMA-Sim (tests/oracle/fp8/compare.py).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/ops/math/fp8.h"
#include "core/ops/math/host_device.h"
#include "core/ops/math/scales.h"

namespace strait {

constexpr int kProductsPerSum = 32;

struct AccumulatorModel {
  int addend_bits = 13;    // REQUIRES: 0 to 32
  int register_bits = 13;  // REQUIRES: 0 to 23
};

// A number as significand * 2^exponent; not normalised.
struct ModelAddend {
  int32_t significand = 0;
  int exponent = 0;
};

namespace accumulator_model {

// An E4M3 number, no NaN, as a whole number of 2^-3 of its exponent. Denormals have -6.
STRAIT_HD inline ModelAddend factor(uint8_t code) {
  const int field = code >> 3 & 15, mantissa = code & 7;
  const int magnitude = field == 0 ? mantissa : 8 + mantissa;
  return {(code & 0x80) != 0 ? -magnitude : magnitude, (field == 0 ? 1 : field) - E4m3::kBias};
}

// As a whole number of 2^-23 of its exponent.
STRAIT_HD inline ModelAddend register_parts(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const auto magnitude = static_cast<int32_t>((bits & 0x7fffffu) | 0x800000u);
  const int field = static_cast<int>(bits >> 23 & 255);
  if (field == 0) return {};
  return {bits >> 31 != 0 ? -magnitude : magnitude, field - 127};
}

// significand * 2^shift without the bits after the point.
STRAIT_HD inline int64_t cut(int32_t significand, int shift) {
  if (significand == 0) return 0;  // whatever the shift
  const uint64_t magnitude = static_cast<uint32_t>(significand < 0 ? -significand : significand);
  const uint64_t kept = shift >= 0 ? magnitude << shift : shift > -32 ? magnitude >> -shift : 0;
  return significand < 0 ? -static_cast<int64_t>(kept) : static_cast<int64_t>(kept);
}

// units * 2^exponent in a register.
STRAIT_HD inline float to_register(int64_t units, int exponent, int register_bits) {
  auto value = static_cast<double>(units);  // exact: 32 addends of 33 + 2 bits at most
  uint64_t bits;
  memcpy(&bits, &value, 8);
  bits &= ~uint64_t{0} << (52 - register_bits);
  memcpy(&value, &bits, 8);
  return static_cast<float>(ldexp(value, exponent));
}

}  // namespace accumulator_model

// The accumulator after `count` products of E4M3 codes more; NaN if a code is. REQUIRES: count <=
// 32; `accumulator` is zero or a normal number, such as this returns.
STRAIT_HD inline float model_accumulate(const AccumulatorModel& model, const uint8_t* a,
                                        const uint8_t* b, int count, float accumulator) {
  using namespace accumulator_model;
  ModelAddend products[kProductsPerSum];
  const ModelAddend before = register_parts(accumulator);
  constexpr int kNone = -1000;
  int largest = kNone;
  if (before.significand != 0) largest = before.exponent;
  for (int i = 0; i < count; ++i) {
    if ((a[i] & E4m3::kNan) == E4m3::kNan || (b[i] & E4m3::kNan) == E4m3::kNan)
      return E4m3::decode(E4m3::kNan);
    const ModelAddend x = factor(a[i]), y = factor(b[i]);
    products[i] = {x.significand * y.significand, x.exponent + y.exponent};
    if (products[i].significand != 0 && products[i].exponent > largest)
      largest = products[i].exponent;
  }
  if (largest == kNone) return 0;
  const int unit = largest - model.addend_bits;  // log2 of what addends are whole numbers of
  int64_t sum = cut(before.significand, before.exponent - 23 - unit);
  for (int i = 0; i < count; ++i)
    sum += cut(products[i].significand, products[i].exponent - 6 - unit);
  return to_register(sum, unit, model.register_bits);
}

// Scales of one row of an operand in FP8: of its tile t, first[t * stride].
struct ModelScales {
  const float* first = nullptr;
  int64_t stride = 0;
};

// One element of a product: a row of `count` codes of either operand, with scales. After every
// `promote_every` products the accumulator, times both scales, is added to a sum in FP32 and starts
// again at zero; 0: only at the end. REQUIRES: the tiles between two promotions have equal scales.
STRAIT_HD inline float model_dot(const AccumulatorModel& model, const uint8_t* a, ModelScales as,
                                 const uint8_t* b, ModelScales bs, int64_t count,
                                 int64_t promote_every) {
  if (promote_every <= 0) promote_every = count;
  float sum = 0;
  for (int64_t begin = 0; begin < count; begin += promote_every) {
    const int64_t end = begin + promote_every < count ? begin + promote_every : count;
    float accumulator = 0;
    for (int64_t k = begin; k < end; k += kProductsPerSum) {
      const int64_t left = end - k;
      accumulator = model_accumulate(
          model, a + k, b + k, left < kProductsPerSum ? static_cast<int>(left) : kProductsPerSum,
          accumulator);
    }
    const int64_t tile = begin / kScaleBlock;
    sum = fmaf(accumulator, as.first[tile * as.stride] * bs.first[tile * bs.stride], sum);
  }
  return sum;
}

}  // namespace strait
