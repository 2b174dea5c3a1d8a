// Normal numbers from counters: one stream on every instruction set, in whatever pieces it is made.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/normal.h"
#include "core/scramble.h"

namespace strait::cpu {
namespace {

using Fill = void (*)(unsigned long, long, float, float*, long);
constexpr unsigned long kStream = 0x123456789abcdef0u;

std::vector<float> made_by(Fill fill, long first, long n) {
  std::vector<float> out(static_cast<size_t>(n));
  fill(kStream, first, 0.5f, out.data(), n);
  return out;
}

TEST(NormalNumbers, AreBoxMullersOfTheCounters) {
  const std::vector<float> made = made_by(portable::fill_normal, 0, 20000);
  for (uint64_t pair = 0; pair < 10000; ++pair) {
    const uint64_t bits = splitmix(kStream ^ splitmix(pair));
    const double u = (static_cast<double>(bits >> 40) + 0.5) * 0x1p-24;
    const double angle = 2 * M_PI * static_cast<double>(bits & 0xffffffu) * 0x1p-24;
    const double radius = 0.5 * std::sqrt(-2 * std::log(u));
    EXPECT_NEAR(made[2 * pair], radius * std::cos(angle), 1e-6) << pair;
    EXPECT_NEAR(made[2 * pair + 1], radius * std::sin(angle), 1e-6) << pair;
  }
}

TEST(NormalNumbers, HaveTheSameBitsOnEveryInstructionSet) {
  const std::vector<float> expected = made_by(portable::fill_normal, 7, 100001);
  if (best_isa() >= Isa::avx2) {
    EXPECT_EQ(made_by(avx2::fill_normal, 7, 100001), expected);
  }
  if (best_isa() < Isa::avx512)
    GTEST_SKIP() << "this machine has no avx512; its best is " << name_of(best_isa());
  EXPECT_EQ(made_by(avx512::fill_normal, 7, 100001), expected);
}

TEST(NormalNumbers, DoNotDependOnThePieceTheyAreMadeIn) {
  const Fill fill = STRAIT_CPU_KERNEL(fill_normal);
  const std::vector<float> all = made_by(fill, 0, 300);
  for (long first : {0L, 1L, 31L, 32L, 33L, 100L})
    for (long n : {0L, 1L, 2L, 31L, 32L, 33L, 150L}) {
      const std::vector<float> piece = made_by(fill, first, n);
      EXPECT_TRUE(std::equal(piece.begin(), piece.end(), all.begin() + first)) << first << " " << n;
    }
}

}  // namespace
}  // namespace strait::cpu
