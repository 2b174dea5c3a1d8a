// tests/core/op_test.h: what the tests of the ops share: views, comparisons, and
// running the whole test program once per instruction set.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/ops/cpu/isa.h"
#include "tests/core/numbers.h"

namespace strait::test {

// A column view inside a wider matrix whose other columns hold 77.
inline Tensor view_of(Context& ctx, int64_t rows, int64_t cols, DType dtype,
                      const Numbers& numbers) {
  const Tensor wide =
      tensor_of(ctx, {rows, cols + 7}, dtype, Numbers(static_cast<size_t>(rows * (cols + 7)), 77));
  Tensor view = wide.slice_cols(3, cols);
  write(view, numbers);
  return view;
}

// A hash of everything that was compared, to see whether two instruction sets give the same bits.
inline uint64_t& bits_hash() {
  static uint64_t hash = 14695981039346656037u;
  return hash;
}
inline void record(const Numbers& numbers) {
  for (double number : numbers) {
    uint64_t bits;
    std::memcpy(&bits, &number, 8);
    if (number != number) bits = 1;  // a NaN is a NaN
    bits_hash() = (bits_hash() ^ bits) * 1099511628211u;
  }
}

// Each number within `relative` of the other, in units of the larger of that number and the root
// mean square of all. `absolute` is added for what rounding leaves where everything cancels: with
// expected numbers that should all be zero, the root mean square is noise itself.
inline void expect_near(const Numbers& got, const Numbers& expected, double relative,
                        const char* what, double absolute = 0) {
  record(got);
  ASSERT_EQ(got.size(), expected.size()) << what;
  double squares = 0;
  for (double number : expected) squares += number * number;
  const double rms =
      expected.empty() ? 0 : std::sqrt(squares / static_cast<double>(expected.size()));
  for (size_t i = 0; i < got.size(); ++i) {
    const double scale = std::max(rms, std::fabs(expected[i]));
    ASSERT_LE(std::fabs(got[i] - expected[i]), relative * scale + absolute)
        << what << " at " << i << ": got " << got[i] << ", expected " << expected[i];
  }
}

inline void expect_same_bits(const Numbers& got, const Numbers& expected, const char* what) {
  record(got);
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(std::memcmp(&got[i], &expected[i], sizeof(double)), 0)
        << what << " at " << i << ": got " << got[i] << ", expected " << expected[i];
}

// Rounding error of one stored number of the type.
inline double unit(DType dtype) { return dtype == DType::bf16 ? 1.0 / 256 : 1.2e-7; }

// d f / d x[i] of a function in FP64, by central differences.
constexpr double kDifferenceStep = 1e-5;
template <class Function>
Numbers finite_differences(Numbers x, Function f, double step = kDifferenceStep) {
  Numbers gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + step;
    const double above = f(x);
    x[i] = at - step;
    const double below = f(x);
    x[i] = at;
    gradient[i] = (above - below) / (2 * step);
  }
  return gradient;
}

// The least that finite_differences can tell from zero: two values of about `f`, each with a few
// FP64 roundings behind it, are subtracted and divided by twice the step.
inline double difference_noise(double f) {
  constexpr double kRoundings = 16;
  return kRoundings * std::numeric_limits<double>::epsilon() * std::fabs(f) / kDifferenceStep;
}

inline double dot(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

struct RunResult {
  int status = -1;
  std::string output, hash;
};
inline RunResult run_with(cpu::Isa isa) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = std::string("STRAIT_CPU_ISA=") + cpu::name_of(isa) + " '" + program +
                              "' --gtest_filter=-EveryIsa.* --gtest_output= 2>&1";
  RunResult result;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return result;
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) result.output += buffer;
  result.status = ::pclose(pipe);
  const size_t at = result.output.rfind("bits ");
  if (at != std::string::npos) result.hash = result.output.substr(at + 5, 16);
  return result;
}

class PrintBits : public ::testing::Environment {
 public:
  void TearDown() override {
    if (std::getenv("STRAIT_CPU_ISA") != nullptr)
      std::printf("bits %016llx\n", static_cast<unsigned long long>(bits_hash()));
  }
};
inline ::testing::Environment* const print_bits =
    ::testing::AddGlobalTestEnvironment(new PrintBits);

}  // namespace strait::test

// Runs all other tests of this program on each instruction set the machine has; AVX2 and AVX512
// must give the same bits.
TEST(EveryIsa, PassesAndFusedOnesAgree) {
  using namespace strait;
  std::map<cpu::Isa, test::RunResult> results;
  for (cpu::Isa isa : {cpu::Isa::portable, cpu::Isa::avx2, cpu::Isa::avx512, cpu::Isa::amx}) {
    if (isa > cpu::best_isa()) continue;
    results[isa] = test::run_with(isa);
    EXPECT_EQ(results[isa].status, 0) << cpu::name_of(isa) << "\n" << results[isa].output;
    EXPECT_EQ(results[isa].hash.size(), 16u);
  }
  if (results.count(cpu::Isa::avx512) == 0)
    GTEST_SKIP() << "no avx512 here to compare with avx2; ran " << results.size()
                 << " instruction sets";
  EXPECT_EQ(results[cpu::Isa::avx2].hash, results[cpu::Isa::avx512].hash);
}
