// The GEMM kernels of every instruction set this machine has, called directly.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/gemm.h"
#include "core/ops/math/fp8.h"

namespace strait::cpu {
namespace {

struct Kernels {
  long (*panel)();
  long (*packed_words)(long, long, bool);
  void (*pack)(const GemmMatrix&, bool, long, long, long, bool, void*);
  long (*scratch_bytes)(const GemmTask&);
  void (*run)(const GemmTask&);
};

Kernels kernels_of(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return {portable::gemm_panel, portable::gemm_packed_words, portable::gemm_pack,
              portable::gemm_scratch_bytes, portable::gemm_run};
    case Isa::avx2:
      return {avx2::gemm_panel, avx2::gemm_packed_words, avx2::gemm_pack, avx2::gemm_scratch_bytes,
              avx2::gemm_run};
    case Isa::avx512:
      return {avx512::gemm_panel, avx512::gemm_packed_words, avx512::gemm_pack,
              avx512::gemm_scratch_bytes, avx512::gemm_run};
    case Isa::amx:
      return {amx::gemm_panel, amx::gemm_packed_words, amx::gemm_pack, amx::gemm_scratch_bytes,
              amx::gemm_run};
  }
  std::abort();
}

// How B and A are given.
enum class Form { forward, input_gradient, weight_gradient };

struct Sizes {
  long rows, cols, k;
};
constexpr Sizes kSizes[] = {{1, 1, 1},      {6, 64, 32},   {7, 65, 33},   {13, 16, 700},
                            {48, 130, 511}, {73, 96, 513}, {100, 5, 257}, {5, 200, 129},
                            {25, 31, 0},    {3, 8, 1040}};

// Random values: FP32, or rounded to BF16, or FP8 codes (NaN left out).
struct Matrix {
  Matrix(long rows, long cols, GemmElement element, unsigned seed) : element(element), cols(cols) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    values.resize(static_cast<size_t>(rows * cols));
    for (float& value : values) {
      value = uniform(random);
      codes.push_back(static_cast<uint8_t>(random() % 127 + (value < 0 ? 128 : 0)));
      if (element == GemmElement::e4m3) value = from_e4m3(codes.back());
      if (element == GemmElement::bf16) value = to_float(to_bfloat16(value));
      halves.push_back(to_bfloat16(value).bits);
    }
  }
  GemmMatrix view() const {
    return {element == GemmElement::f32    ? static_cast<const void*>(values.data())
            : element == GemmElement::bf16 ? static_cast<const void*>(halves.data())
                                           : codes.data(),
            cols, element};
  }
  float at(long row, long col) const { return values[static_cast<size_t>(row * cols + col)]; }
  GemmElement element;
  long cols;
  std::vector<float> values;
  std::vector<uint16_t> halves;
  std::vector<uint8_t> codes;
};

// Scales of the rows of A, and of the columns of B or (but for weight gradients) of its blocks.
struct Scales {
  Scales(Form form, Sizes s) : blocks(form != Form::weight_gradient) {
    std::mt19937 random(3);
    std::uniform_real_distribution<float> uniform(0.5f, 2);
    const long chunks = (s.k + kScaledSteps - 1) / kScaledSteps;
    for (long i = 0; i < chunks * s.rows; ++i) a.push_back(uniform(random));
    for (long i = 0; i < chunks * s.cols; ++i) b.push_back(uniform(random));
    a_scales = {a.data(), s.rows, 1, false};
    b_scales = {b.data(), s.cols, 1, blocks};
  }
  float at(long row, long k, long col) const {
    const long chunk = k / kScaledSteps, line = blocks ? col / kScaledSteps : col;
    return a[static_cast<size_t>(chunk * a_scales.per_chunk + row)] *
           b[static_cast<size_t>(chunk * b_scales.per_chunk + line)];
  }
  bool blocks;
  std::vector<float> a, b;
  GemmScales a_scales{}, b_scales{};
};

struct Problem {
  Problem(Form form, Sizes s, GemmElement element)
      : form(form),
        sizes(s),
        a(form == Form::weight_gradient ? s.k : s.rows,
          form == Form::weight_gradient ? s.rows : s.k, element, 1),
        b(form == Form::forward ? s.cols : s.k, form == Form::forward ? s.k : s.cols, element, 2),
        scales(form, s) {}
  bool scaled() const { return a.element == GemmElement::e4m3; }
  double product(long row, long k, long col) const {
    return double{a_at(row, k)} * double{b_at(k, col)} *
           (scaled() ? double{scales.at(row, k, col)} : 1.0);
  }
  float a_at(long row, long k) const {
    return form == Form::weight_gradient ? a.at(k, row) : a.at(row, k);
  }
  float b_at(long k, long col) const { return form == Form::forward ? b.at(col, k) : b.at(k, col); }
  Form form;
  Sizes sizes;
  Matrix a, b;
  Scales scales;
};

// C as FP32; every element starts as a NaN.
std::vector<float> multiply(const Kernels& kernels, const Problem& problem, GemmWords words) {
  const auto [rows, cols, k] = problem.sizes;
  const bool gradient = problem.form == Form::weight_gradient, bf16 = words != GemmWords::f32;
  std::vector<float> c(static_cast<size_t>(rows * cols), std::nanf(""));
  std::vector<float> packed;
  GemmTask task{};
  task.words = words;
  task.rows = rows, task.cols = cols, task.k = k;
  task.a_is_k_rows = gradient;
  task.a = problem.a.view();
  task.b = problem.b.view();
  if (!gradient) {
    packed.resize(static_cast<size_t>(kernels.packed_words(k, cols, bf16)) + 1);
    for (long col = 0; col < cols; col += kernels.panel())
      kernels.pack(problem.b.view(), problem.form == Form::forward, k, cols, col, bf16,
                   packed.data() + kernels.packed_words(k, col, bf16));
    task.b_packed = packed.data();
  }
  task.c = c.data();
  task.c_stride = cols;
  task.scaled = problem.scaled();
  task.a_scales = problem.scales.a_scales;
  task.b_scales = problem.scales.b_scales;
  const auto bytes = static_cast<size_t>(kernels.scratch_bytes(task));
  const std::unique_ptr<void, void (*)(void*)> scratch(
      std::aligned_alloc(64, (bytes + 63) / 64 * 64), std::free);
  task.scratch = scratch.get();
  kernels.run(task);
  return c;
}

void expect_exact(const Problem& problem, const std::vector<float>& c) {
  const auto [rows, cols, k] = problem.sizes;
  for (long row = 0; row < rows; ++row) {
    for (long col = 0; col < cols; ++col) {
      double sum = 0, magnitude = 0;
      for (long i = 0; i < k; ++i) {
        const double product = problem.product(row, i, col);
        sum += product, magnitude += std::abs(product);
      }
      ASSERT_NEAR(c[static_cast<size_t>(row * cols + col)], sum, 1e-6 * magnitude)
          << rows << "x" << cols << "x" << k << " at " << row << ", " << col;
    }
  }
}

constexpr Form kForms[] = {Form::forward, Form::input_gradient, Form::weight_gradient};

class GemmKernel : public testing::TestWithParam<Isa> {};

TEST_P(GemmKernel, AgreesWithFloat64) {
  if (GetParam() > best_isa()) GTEST_SKIP() << "this machine has no " << name_of(GetParam());
  const Kernels kernels = kernels_of(GetParam());
  for (const Sizes& sizes : kSizes) {
    for (Form form : kForms) {
      const Problem single(form, sizes, GemmElement::f32), half(form, sizes, GemmElement::bf16),
          codes(form, sizes, GemmElement::e4m3);
      expect_exact(codes, multiply(kernels, codes, GemmWords::bf16_widened));
      if (GetParam() >= Isa::avx512)
        expect_exact(codes, multiply(kernels, codes, GemmWords::bf16_pairs));
      expect_exact(single, multiply(kernels, single, GemmWords::f32));
      expect_exact(half, multiply(kernels, half, GemmWords::bf16_widened));
      if (GetParam() >= Isa::avx512)
        expect_exact(half, multiply(kernels, half, GemmWords::bf16_pairs));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, GemmKernel,
                         testing::Values(Isa::portable, Isa::avx2, Isa::avx512, Isa::amx),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// The reduction is the same chain of fused multiply-adds on both, and VDPBF16PS adds its two
// products in the order of the widened words.
TEST(GemmKernels, SameBitsOnAvx2AndAvx512) {
  if (best_isa() < Isa::avx512) GTEST_SKIP() << "this machine has no avx512";
  const Kernels narrow = kernels_of(Isa::avx2), wide = kernels_of(Isa::avx512);
  for (const Sizes& sizes : kSizes) {
    for (Form form : kForms) {
      const Problem single(form, sizes, GemmElement::f32), half(form, sizes, GemmElement::bf16),
          codes(form, sizes, GemmElement::e4m3);
      const auto scaled = multiply(narrow, codes, GemmWords::bf16_widened);
      EXPECT_EQ(scaled, multiply(wide, codes, GemmWords::bf16_widened));
      EXPECT_EQ(scaled, multiply(wide, codes, GemmWords::bf16_pairs));
      EXPECT_EQ(multiply(narrow, single, GemmWords::f32), multiply(wide, single, GemmWords::f32));
      const auto expected = multiply(narrow, half, GemmWords::bf16_widened);
      EXPECT_EQ(expected, multiply(wide, half, GemmWords::bf16_widened));
      EXPECT_EQ(expected, multiply(wide, half, GemmWords::bf16_pairs));
    }
  }
}

}  // namespace
}  // namespace strait::cpu
