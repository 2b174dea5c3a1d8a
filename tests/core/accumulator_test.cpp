#include "core/ops/math/accumulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

namespace strait {
namespace {

using Codes = std::vector<uint8_t>;

// The oracle works on values as whole numbers of 2^-80 in 128 bits, not on fields of codes.
using Whole = __int128;
constexpr int kPoint = 80;

Whole power(int exponent) { return Whole{1} << (kPoint + exponent); }
Whole whole(double value) {  // exact for what occurs here: few bits, none below 2^-80
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  const auto bits = static_cast<int64_t>(std::ldexp(fraction, 30));
  return exponent >= 30 - kPoint ? Whole{bits} << (exponent - 30 + kPoint)
                                 : Whole{bits} / (Whole{1} << (30 - kPoint - exponent));
}
int leading(Whole value) {  // the e of 2^e <= |value| < 2^(e + 1)
  value = value < 0 ? -value : value;
  int exponent = -kPoint;
  while (value >= power(exponent + 1)) ++exponent;
  return exponent;
}

// What the model is not, to show that the tests would tell.
enum class Fault {
  none,
  nearest_addends,    // rounded rather than cut
  downwards,          // cut towards minus infinity
  normal_products,    // 3.5 counts as 2^1
  no_denormals,       // factors below 2^-6 have their own exponents
  accumulator_apart,  // not aligned with the products
  two_groups,         // 16 and 16
  nearest_register,
  one_bit_more,
  one_bit_less,
  register_bit_more,
  fp32_register
};
constexpr Fault kFaults[] = {
    Fault::nearest_addends,   Fault::downwards,         Fault::normal_products,
    Fault::no_denormals,      Fault::accumulator_apart, Fault::two_groups,
    Fault::nearest_register,  Fault::one_bit_more,      Fault::one_bit_less,
    Fault::register_bit_more, Fault::fp32_register};

Whole divided(Whole value, Whole unit, Fault fault) {
  if (fault == Fault::nearest_addends)
    return (value + (value < 0 ? -unit / 2 : unit / 2)) / unit * unit;
  const Whole kept = value / unit * unit;  // C++ divides towards zero
  return fault == Fault::downwards && kept > value ? kept - unit : kept;
}

float oracle(AccumulatorModel model, const Codes& a, const Codes& b, float accumulator,
             Fault fault = Fault::none) {
  if (fault == Fault::two_groups && a.size() > 16) {
    const auto half = [](const Codes& all, bool second) {
      return second ? Codes(all.begin() + 16, all.end()) : Codes(all.begin(), all.begin() + 16);
    };
    return oracle(model, half(a, true), half(b, true),
                  oracle(model, half(a, false), half(b, false), accumulator));
  }
  model.addend_bits += fault == Fault::one_bit_more ? 1 : fault == Fault::one_bit_less ? -1 : 0;
  if (fault == Fault::register_bit_more) ++model.register_bits;
  if (fault == Fault::fp32_register) model.register_bits = 23;
  std::vector<Whole> addends;
  int largest = -40;  // below what occurs here
  const auto exponent_of = [&](double factor) {
    return fault == Fault::no_denormals ? std::ilogb(factor) : std::max(std::ilogb(factor), -6);
  };
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = from_e4m3(a[i]), y = from_e4m3(b[i]);
    if (x == 0 || y == 0) continue;
    addends.push_back(whole(x * y));
    largest = std::max(largest, fault == Fault::normal_products ? std::ilogb(x * y)
                                                                : exponent_of(x) + exponent_of(y));
  }
  const Whole before = whole(accumulator);
  Whole sum = 0;
  if (before != 0 && fault != Fault::accumulator_apart)
    largest = std::max(largest, leading(before));
  const Whole unit = power(largest - model.addend_bits);
  for (const Whole addend : addends) sum += divided(addend, unit, fault);
  sum += fault == Fault::accumulator_apart ? before : divided(before, unit, fault);
  if (sum == 0) return 0;
  const Whole last = power(leading(sum) - model.register_bits);
  const Fault how = fault == Fault::nearest_register ? Fault::nearest_addends : Fault::none;
  return static_cast<float>(
      std::ldexp(static_cast<double>(divided(sum, last, how) / last), leading(last)));
}

float model_of(const AccumulatorModel& model, const Codes& a, const Codes& b, float accumulator) {
  return model_accumulate(model, a.data(), b.data(), static_cast<int>(a.size()), accumulator);
}

uint8_t random_code(std::mt19937& random, int most) {
  const auto magnitude = static_cast<uint8_t>(random() % static_cast<unsigned>(most + 1));
  return static_cast<uint8_t>(magnitude | (random() % 2) << 7);
}
Codes random_codes(std::mt19937& random, size_t count, int most) {
  Codes codes(count);
  for (uint8_t& code : codes) code = random_code(random, most);
  return codes;
}
Codes codes_of(const std::vector<float>& values) {
  Codes codes;
  for (const float value : values) {
    codes.push_back(to_e4m3(value));
    EXPECT_EQ(from_e4m3(codes.back()), value) << "no E4M3 number";
  }
  return codes;
}

// Sums of all sizes: a chain of accumulators, and codes that stay below a magnitude, of denormals
// too.
void each_random(int count,
                 const std::function<void(const Codes&, const Codes&, float accumulator)>& body) {
  std::mt19937 random(1);
  float accumulator = 0;
  for (int i = 0; i < count; ++i) {
    const size_t products = i % 7 == 0 ? random() % 33 : 32;
    const auto codes = [&] {
      return random_codes(random, products, std::vector<int>{0x7e, 0x50, 0x38, 0x0a}[random() % 4]);
    };
    const Codes a = codes(), b = codes();
    body(a, b, accumulator);
    accumulator = random() % 8 == 0 ? 0 : model_of({}, a, b, accumulator);
  }
}

TEST(Accumulator, EqualsWholeNumbers) {
  for (const AccumulatorModel& model : {AccumulatorModel{},
                                        {.addend_bits = 14},
                                        {.addend_bits = 10, .register_bits = 10},
                                        {.addend_bits = 25, .register_bits = 23},
                                        {.addend_bits = 0, .register_bits = 3}})
    each_random(20'000, [&](const Codes& a, const Codes& b, float accumulator) {
      ASSERT_EQ(model_of(model, a, b, accumulator), oracle(model, a, b, accumulator));
    });
}

TEST(Accumulator, FaultsAreTold) {
  for (const Fault fault : kFaults) {
    int told = 0;
    each_random(5000, [&](const Codes& a, const Codes& b, float accumulator) {
      told += model_of({}, a, b, accumulator) != oracle({}, a, b, accumulator, fault);
    });
    EXPECT_GT(told, 20) << static_cast<int>(fault);
  }
}

TEST(Accumulator, OrderWithinASumDoesNotCount) {
  std::mt19937 random(2);
  each_random(2000, [&](const Codes& a, const Codes& b, float accumulator) {
    std::vector<size_t> order(a.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    Codes x, y;
    for (const size_t i : order) {
      x.push_back(a[i]);
      y.push_back(b[i]);
    }
    ASSERT_EQ(model_of({}, x, y, accumulator), model_of({}, a, b, accumulator));
  });
}

TEST(Accumulator, SignsDoNotCount) {
  each_random(2000, [&](Codes a, const Codes& b, float accumulator) {
    const float sum = model_of({}, a, b, accumulator);
    for (uint8_t& code : a) code ^= 0x80;
    ASSERT_EQ(model_of({}, a, b, -accumulator), -sum);
  });
}

// Whole numbers whose sums stay below 2^13 need no bit that is cut.
TEST(Accumulator, ShortNumbersAreExact) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    float accumulator = 0, exact = 0;
    for (int sum = 0; sum < 4; ++sum) {
      std::vector<float> a, b;
      for (int i = 0; i < kProductsPerSum; ++i) {
        a.push_back(static_cast<float>(random() % 17) - 8);
        b.push_back(static_cast<float>(random() % 15) - 7);
        exact += a.back() * b.back();
      }
      accumulator = model_of({}, codes_of(a), codes_of(b), accumulator);
      ASSERT_EQ(accumulator, exact);
    }
  }
}

TEST(Accumulator, CutsByHand) {
  const auto filled = [](float first, float rest) {
    std::vector<float> values(kProductsPerSum, rest);
    values[0] = first;
    return codes_of(values);
  };
  // 2^-13 is the last bit beside 1; half of it vanishes, all 31 times.
  EXPECT_EQ(model_of({}, filled(1, 0x1p-7f), filled(1, 0x1p-6f), 0), 1 + 31 * 0x1p-13f);
  EXPECT_EQ(model_of({}, filled(1, 0x1p-7f), filled(1, 0x1p-7f), 0), 1);
  EXPECT_EQ(model_of({}, filled(-1, 0x1p-7f), filled(1, 0x1p-7f), 0), -1);
  // One bit more keeps them; the register cuts their sum of 15.5 * 2^-13.
  EXPECT_EQ(model_of({.addend_bits = 14}, filled(1, 0x1p-7f), filled(1, 0x1p-7f), 0),
            1 + 15 * 0x1p-13f);
  // 1.875 * 1.875 = 3.515625 has the exponents of its factors: 2^-13 stays, until the register cuts
  // 3.515625 + 31 * 2^-13 to whole numbers of 2^-12.
  EXPECT_EQ(model_of({}, filled(1.875f, 0x1p-7f), filled(1.875f, 0x1p-6f), 0),
            3.515625f + 15 * 0x1p-12f);
  // Beside an accumulator of 2^14 the last bit is 2: ones vanish, threes become twos.
  EXPECT_EQ(model_of({}, filled(1, 1), filled(1, 1), 16384), 16384);
  EXPECT_EQ(model_of({}, filled(3, 3), filled(1, 1), 16384), 16384 + 64);
  EXPECT_EQ(model_of({}, filled(-3, -3), filled(1, 1), 16384), 16384 - 64);
  // And beside products of 2^17 the accumulator's last bits go: 16 is the last that stays.
  EXPECT_EQ(model_of({}, filled(256, 0), filled(256, 0), 31), 65536 + 24);
  // The largest cancel, but what was cut beside them does not come back.
  std::vector<float> a(kProductsPerSum, 1);
  a[0] = 256;
  a[1] = -256;
  std::vector<float> b(kProductsPerSum, 1);
  b[0] = b[1] = 256;
  EXPECT_EQ(model_of({}, codes_of(a), codes_of(b), 0), 0);
}

TEST(Accumulator, NothingAndNan) {
  EXPECT_EQ(model_of({}, {}, {}, 0), 0);
  EXPECT_EQ(model_of({}, {}, {}, 1.5f), 1.5f);
  EXPECT_EQ(model_of({}, Codes(32, 0x80), Codes(32, 0x38), 0x1p-100f), 0x1p-100f);
  for (const uint8_t nan : {0x7f, 0xff}) {
    EXPECT_TRUE(std::isnan(model_of({}, {0x38, nan}, {0x38, 0x38}, 0)));
    EXPECT_TRUE(std::isnan(model_of({}, {0x38, 0x38}, {0, nan}, 0)));
  }
}

// A row of codes, with a scale for every 128, beside FP64.
struct Row {
  Codes a, b;
  std::vector<float> scales_a, scales_b;
  double exact = 0;
};
Row random_row(std::mt19937& random, int64_t count, bool equal_scales) {
  std::normal_distribution<float> normal(0, 100);
  Row row;
  for (int64_t k = 0; k < count; ++k) {
    if (k % kScaleBlock == 0) {
      const float scale = equal_scales ? 0.5f : 0.25f + static_cast<float>(random() % 100) * 0.01f;
      row.scales_a.push_back(scale);
      row.scales_b.push_back(1 / scale + 0.125f);
    }
    row.a.push_back(to_e4m3(normal(random)));
    row.b.push_back(to_e4m3(normal(random)));
    row.exact += double{from_e4m3(row.a.back())} * from_e4m3(row.b.back()) * row.scales_a.back() *
                 row.scales_b.back();
  }
  return row;
}
float dot(const Row& row, int64_t promote_every, const AccumulatorModel& model = {}) {
  return model_dot(model, row.a.data(), {row.scales_a.data(), 1}, row.b.data(),
                   {row.scales_b.data(), 1}, static_cast<int64_t>(row.a.size()), promote_every);
}

TEST(Promotion, LessErrorTheOftenerItHappens) {
  std::mt19937 random(4);
  double before = 0;
  for (const int64_t every : {0, 1024, 256, 128, 32}) {
    double squares = 0;
    for (int row = 0; row < 200; ++row) {
      const Row r = random_row(random, 4096, true);
      squares += std::pow(dot(r, every) - r.exact, 2);
    }
    if (before > 0) {
      EXPECT_LT(squares, 0.7 * before) << every;
    }
    before = squares;
  }
}

TEST(Promotion, AppliesTheScalesOfEachTile) {
  std::mt19937 random(5);
  for (const int64_t count : {1, 32, 100, 128, 129, 1000, 4096})
    for (const int64_t every : {32, 64, 128}) {
      const Row row = random_row(random, count, false);
      float sum = 0;
      for (int64_t begin = 0; begin < count; begin += every) {
        float accumulator = 0;
        for (int64_t k = begin; k < std::min(begin + every, count); k += kProductsPerSum) {
          const int64_t end = std::min({k + kProductsPerSum, begin + every, count});
          accumulator = oracle({}, Codes(row.a.begin() + k, row.a.begin() + end),
                               Codes(row.b.begin() + k, row.b.begin() + end), accumulator);
        }
        const auto tile = static_cast<size_t>(begin / kScaleBlock);
        sum = std::fma(accumulator, row.scales_a[tile] * row.scales_b[tile], sum);
      }
      ASSERT_EQ(dot(row, every), sum) << count << " " << every;
      // With FP32's bits the model is near FP64.
      ASSERT_NEAR(dot(row, every, {.addend_bits = 30, .register_bits = 23}), row.exact,
                  1e-5 * 1e4 * std::sqrt(static_cast<double>(count)));
    }
}

}  // namespace
}  // namespace strait
