// The vector functions of core/ops/cpu/kernels/vec.inc, as compiled for each instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/math/activation.h"
#include "core/ops/math/scalar.h"

#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC diagnostic ignored "-Wignored-attributes"
#pragma GCC diagnostic ignored "-Wuninitialized"  // inside GCC 12's own AVX512 header
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

// One set of entry points per instruction set: arrays of 16 in, arrays of 16 (or one number) out.
#define STRAIT_VEC_ENTRY_POINTS                                                        \
  static void exp16(const float* x, float* y) { vstore(y, vexp(vload(x))); }           \
  static void sigmoid16(const float* x, float* y) { vstore(y, vsigmoid(vload(x))); }   \
  static void sqrt16(const float* x, float* y) { vstore(y, vsqrt(vload(x))); }         \
  static void round16(const float* x, unsigned short* y) { vstore_bf16(y, vload(x)); } \
  static void widen16(const unsigned short* x, float* y) { vstore(y, vload_bf16(x)); } \
  static float sum16(const float* x) { return vsum(vload(x)); }                        \
  static float max16(const float* x) { return vmax_lanes(vload(x)); }                  \
  static void copy_part(const float* x, float* y, long n) { vput(y, vget(x, n), n); }  \
  static void copy_part_bf16(const unsigned short* x, unsigned short* y, long n) {     \
    vput(y, vget(x, n), n);                                                            \
  }

namespace vec_portable {
#include "core/ops/cpu/kernels/vec.inc"
STRAIT_VEC_ENTRY_POINTS
}  // namespace vec_portable

#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define STRAIT_ISA_AVX2
namespace vec_avx2 {
#include "core/ops/cpu/kernels/vec.inc"
STRAIT_VEC_ENTRY_POINTS
}  // namespace vec_avx2
#undef STRAIT_ISA_AVX2
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#define STRAIT_ISA_AVX512
namespace vec_avx512 {
#include "core/ops/cpu/kernels/vec.inc"
STRAIT_VEC_ENTRY_POINTS
}  // namespace vec_avx512
#undef STRAIT_ISA_AVX512
#pragma GCC pop_options
#endif

namespace strait {
namespace {

struct Vec {
  const char* name;
  bool fused;
  void (*exp16)(const float*, float*);
  void (*sigmoid16)(const float*, float*);
  void (*sqrt16)(const float*, float*);
  void (*round16)(const float*, unsigned short*);
  void (*widen16)(const unsigned short*, float*);
  float (*sum16)(const float*);
  float (*max16)(const float*);
  void (*copy_part)(const float*, float*, long);
  void (*copy_part_bf16)(const unsigned short*, unsigned short*, long);
};

#define STRAIT_VEC(ns, fused)                                                              \
  Vec {                                                                                    \
#ns, fused, ns::exp16, ns::sigmoid16, ns::sqrt16, ns::round16, ns::widen16, ns::sum16, \
        ns::max16, ns::copy_part, ns::copy_part_bf16                                       \
  }

std::vector<Vec> supported() {
  std::vector<Vec> all{STRAIT_VEC(vec_portable, false)};
#if defined(__x86_64__)
  if (cpu::best_isa() >= cpu::Isa::avx2) all.push_back(STRAIT_VEC(vec_avx2, true));
  if (cpu::best_isa() >= cpu::Isa::avx512) all.push_back(STRAIT_VEC(vec_avx512, true));
#endif
  return all;
}

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Vec, ExpIsWithinItsErrorOverTheWholeRange) {
  for (const Vec& vec : supported()) {
    double worst = 0;
    // Every 1511th number of either sign whose result is normal, from 2^-30 on.
    for (uint32_t sign : {0u, 0x80000000u}) {
      for (uint32_t bits = 0x30800000u; bits < 0x42b17200u; bits += 16 * 1511) {
        float x[16], y[16];
        for (uint32_t i = 0; i < 16; ++i)
          x[i] = std::max(from_bits(std::min(bits + i * 1511, 0x42b17200u) | sign), -87.3f);
        vec.exp16(x, y);
        for (int i = 0; i < 16; ++i) {
          const double exact = std::exp(static_cast<double>(x[i]));
          worst = std::max(worst, std::fabs(y[i] - exact) / exact);
          if (!vec.fused) continue;
          ASSERT_EQ(bits_of(y[i]), bits_of(exp_f32(x[i]))) << vec.name << " " << x[i];
        }
      }
    }
    EXPECT_LT(worst, 1e-7) << vec.name;
  }
}

TEST(Vec, ExpAndSigmoidAtTheEnds) {
  const float x[16] = {0.0f, -0.0f, -87.31f, -1000,   -kInf, 88.73f, 1000, kInf,
                       NAN,  -NAN,  1e-40f,  -1e-40f, 88.7f, -87.2f, 1,    -1};
  for (const Vec& vec : supported()) {
    float y[16];
    vec.exp16(x, y);
    const float expected[12] = {1, 1, 0, 0, 0, kInf, kInf, kInf, NAN, NAN, 1, 1};
    for (int i = 0; i < 12; ++i) {
      const bool same = std::isnan(expected[i]) ? std::isnan(y[i]) : y[i] == expected[i];
      EXPECT_TRUE(same) << vec.name << " exp(" << x[i] << ") = " << y[i];
    }
    EXPECT_TRUE(std::isfinite(y[12]) && y[12] > 3.3e38f) << vec.name;
    EXPECT_GT(y[13], 1e-38f) << vec.name;
    vec.sigmoid16(x, y);
    EXPECT_EQ(y[0], 0.5f);
    EXPECT_EQ(y[3], 0.0f);
    EXPECT_EQ(y[4], 0.0f);
    EXPECT_EQ(y[7], 1.0f);
    EXPECT_TRUE(std::isnan(y[8]));
    EXPECT_NEAR(y[14], 1 / (1 + std::exp(-1.0)), 1e-7);
    for (int i = 0; i < 16 && vec.fused; ++i) {
      if (std::isnan(x[i])) continue;
      EXPECT_EQ(bits_of(y[i]), bits_of(sigmoid<Scalar>(x[i]))) << vec.name;
    }
  }
}

TEST(Vec, Bf16RoundsAsTheScalarDefinition) {
  std::vector<float> values = {0.0f,   -0.0f,   kInf,    -kInf,        NAN,
                               1e-40f, -3e-39f, 3.4e38f, 3.3961776e38f};
  values.push_back(from_bits(0x7f800001u));  // a signalling NaN
  values.push_back(from_bits(0xff800001u));
  values.push_back(from_bits(0x3f808000u));  // ties, to even both ways
  values.push_back(from_bits(0x3f818000u));
  std::mt19937 generator(1);
  while (values.size() % 16 != 0 || values.size() < 65536)
    values.push_back(from_bits(static_cast<uint32_t>(generator())));
  for (const Vec& vec : supported()) {
    for (size_t i = 0; i < values.size(); i += 16) {
      unsigned short rounded[16];
      float wide[16];
      vec.round16(values.data() + i, rounded);
      vec.widen16(rounded, wide);
      for (size_t lane = 0; lane < 16; ++lane) {
        ASSERT_EQ(rounded[lane], to_bfloat16(values[i + lane]).bits)
            << vec.name << " " << values[i + lane];
        ASSERT_EQ(bits_of(wide[lane]), bits_of(to_float(bfloat16{rounded[lane]}))) << vec.name;
      }
    }
  }
}

TEST(Vec, ReductionsUseOneTree) {
  std::mt19937 generator(2);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 100; ++round) {
    float x[16], tree[16];
    for (float& value : x) value = normal(generator);
    std::copy(x, x + 16, tree);
    for (int width = 8; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) tree[i] += tree[i + width];
    for (const Vec& vec : supported()) {
      EXPECT_EQ(vec.sum16(x), tree[0]) << vec.name;
      EXPECT_EQ(vec.max16(x), *std::max_element(x, x + 16)) << vec.name;
    }
  }
}

TEST(Vec, SqrtIsExact) {
  std::mt19937 generator(3);
  std::uniform_real_distribution<float> uniform(0, 1000);
  for (const Vec& vec : supported()) {
    float x[16], y[16];
    for (float& value : x) value = uniform(generator);
    vec.sqrt16(x, y);
    for (int i = 0; i < 16; ++i) EXPECT_EQ(y[i], std::sqrt(x[i])) << vec.name;
  }
}

TEST(Vec, PartsTouchNothingElse) {
  for (const Vec& vec : supported()) {
    for (long n = 0; n <= 16; ++n) {
      // Exactly n elements on the heap: a sanitizer sees a read past them.
      const std::vector<float> x(static_cast<size_t>(n), 2.5f);
      const std::vector<unsigned short> h(static_cast<size_t>(n), 0x4020);
      std::vector<float> y(17, -1);
      std::vector<unsigned short> g(17, 7);
      vec.copy_part(x.data(), y.data(), n);
      vec.copy_part_bf16(h.data(), g.data(), n);
      for (long i = 0; i < 17; ++i) {
        EXPECT_EQ(y[static_cast<size_t>(i)], i < n ? 2.5f : -1.0f) << vec.name;
        EXPECT_EQ(g[static_cast<size_t>(i)], i < n ? 0x4020 : 7) << vec.name;
      }
    }
  }
}

}  // namespace
}  // namespace strait
