// Products of FP8 operands against FP64, dense and grouped.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/ops/gemm.h"
#include "core/ops/math/fp8.h"

namespace strait {
namespace {

using Values = std::vector<double>;

struct Sizes {
  int64_t rows, n, k;
  std::vector<int64_t> offsets;  // of the experts' rows
  int64_t experts() const { return static_cast<int64_t>(offsets.size()) - 1; }
};
Sizes dense(int64_t rows, int64_t n, int64_t k) { return {rows, n, k, {0, rows}}; }

const Sizes kAllSizes[] = {dense(1, 1, 1),
                           dense(7, 33, 129),
                           dense(130, 200, 300),
                           dense(5, 64, 1040),
                           dense(259, 16, 24),
                           dense(0, 5, 6),
                           dense(4, 5, 0),
                           {90, 35, 150, {0, 0, 37, 37, 90}},
                           {700, 136, 72, {0, 3, 400, 400, 690}}};

using Draw = float (*)(std::mt19937& random, int64_t row, int64_t col);

float normal(std::mt19937& random, int64_t, int64_t) {
  return std::normal_distribution<float>(0, 0.1f)(random);
}
// Few-bit integers with a 7 in every tile: all scales are 1 / 64.
float small_integer(std::mt19937& random, int64_t row, int64_t col) {
  const int value = static_cast<int>(random() % 15) - 7;
  return static_cast<float>(col % 128 == 0 || row % 3 == 0 ? (value < 0 ? -7 : 7) : value);
}

Tensor draw(Context& ctx, int64_t rows, int64_t cols, unsigned seed, Draw one) {
  Tensor matrix = ctx.empty({rows, cols}, DType::f32, Purpose::activations);
  std::mt19937 random(seed);
  for (int64_t i = 0; i < matrix.numel(); ++i)
    matrix.data<float>()[i] =
        one(random, i / std::max<int64_t>(1, cols), i % std::max<int64_t>(1, cols));
  return matrix;
}

double number(const Tensor& matrix, int64_t row, int64_t col) {
  return matrix.data<float>()[row * matrix.cols() + col];
}

Fp8Matrix in_rows(Context& ctx, const Tensor& x, const QuantizeSettings& settings) {
  Fp8Matrix q = empty_fp8(ctx, x.rows(), x.cols(), ScaleLayout::rows_1x128, Purpose::activations);
  quantize_rows(ctx, x, settings, q);
  return q;
}
Fp8Matrix in_columns(Context& ctx, const Tensor& x, const Sizes& s,
                     const QuantizeSettings& settings) {
  Fp8Matrix q = empty_fp8_columns(ctx, x.rows(), x.cols(), s.experts(), Purpose::activations);
  quantize_columns(ctx, x, s.offsets, settings, q);
  return q;
}

// What the codes stand for, and how the products below see them.
struct Problem {
  Problem(Context& ctx, const Sizes& s, Draw one)
      : sizes(s),
        x(draw(ctx, s.rows, s.k, 1, one)),
        dy(draw(ctx, s.rows, s.n, 2, one)),
        w(draw(ctx, s.experts() * s.n, s.k, 3, one)),
        x_rows(in_rows(ctx, x, kActivationScales)),
        dy_rows(in_rows(ctx, dy, kGradientScales)),
        x_columns(in_columns(ctx, x, s, kActivationScales)),
        dy_columns(in_columns(ctx, dy, s, kGradientScales)) {
    packed.pack(ctx, w.view({s.experts(), s.n, s.k}), DType::e4m3);
    y = ctx.empty({s.rows, s.n}, DType::f32, Purpose::activations);
    dx = ctx.empty({s.rows, s.k}, DType::f32, Purpose::activations);
    dw = ctx.empty({s.experts(), s.n, s.k}, DType::f32, Purpose::gradients);
  }
  void run(Context& ctx, Accumulate accumulate) {
    grouped_linear(ctx, x_rows, sizes.offsets, packed, y, accumulate);
    grouped_linear_input_gradient(ctx, dy_rows, sizes.offsets, packed, dx, accumulate);
    grouped_linear_weight_gradient(ctx, dy_columns, x_columns, sizes.offsets, dw, accumulate);
  }
  Sizes sizes;
  Tensor x, dy, w;
  Fp8Matrix x_rows, dy_rows, x_columns, dy_columns;
  PackedWeight packed;
  Tensor y, dx, dw;
};

double value_in_rows(const Fp8Matrix& q, int64_t row, int64_t col) {
  const int64_t rows = q.codes_RC.rows(), cols = q.codes_RC.cols();
  return double{from_e4m3(q.codes_RC.data<uint8_t>()[row * cols + col])} *
         double{q.scales.data<float>()[scale_index(q.layout, rows, cols, row, col)]};
}
double value_in_columns(const Fp8Matrix& q, const Sizes& s, int64_t row, int64_t col) {
  const int64_t cols = q.codes_RC.cols();
  int64_t tile = 0, g = 0;
  for (; s.offsets[static_cast<size_t>(g) + 1] <= row; ++g)
    tile +=
        ceil_div(s.offsets[static_cast<size_t>(g) + 1] - s.offsets[static_cast<size_t>(g)], 128);
  tile += (row - s.offsets[static_cast<size_t>(g)]) / 128;
  return double{from_e4m3(q.codes_RC.data<uint8_t>()[row * cols + col])} *
         double{q.scales.data<float>()[tile * round_up(cols, 4) + col]};
}
// The weight's blocks again, by the rule itself.
Values weight_values(const Tensor& w, const Sizes& s) {
  Values values(static_cast<size_t>(w.numel()));
  for (int64_t e = 0; e < s.experts(); ++e)
    for (int64_t n0 = 0; n0 < s.n; n0 += 128)
      for (int64_t k0 = 0; k0 < s.k; k0 += 128) {
        const auto each = [&](const auto& body) {
          for (int64_t n = n0; n < std::min(n0 + 128, s.n); ++n)
            for (int64_t k = k0; k < std::min(k0 + 128, s.k); ++k) body((e * s.n + n) * s.k + k);
        };
        float most = kLeastPublishedMax;
        each([&](int64_t i) { most = std::max(most, std::abs(w.data<float>()[i])); });
        const float scale = most / 448.0f;
        each([&](int64_t i) {
          values[static_cast<size_t>(i)] =
              double{from_e4m3(to_e4m3(w.data<float>()[i] / scale))} * double{scale};
        });
      }
  return values;
}

struct Exact {
  double sum = 0, magnitude = 0;
  void add(double product) { sum += product, magnitude += std::abs(product); }
};

// check(name, result, exact sum) for every element of y, dx and dw.
template <class Check>
void for_each_element(const Problem& p, double before, const Check& check) {
  const Sizes& s = p.sizes;
  const Values w = weight_values(p.w, s);
  for (int64_t e = 0; e < s.experts(); ++e) {
    const int64_t first = s.offsets[static_cast<size_t>(e)],
                  end = s.offsets[static_cast<size_t>(e) + 1];
    for (int64_t t = first; t < end; ++t) {
      for (int64_t n = 0; n < s.n; ++n) {
        Exact exact;
        exact.add(before);
        for (int64_t k = 0; k < s.k; ++k)
          exact.add(value_in_rows(p.x_rows, t, k) *
                    w[static_cast<size_t>((e * s.n + n) * s.k + k)]);
        check("y", number(p.y, t, n), exact);
      }
      for (int64_t k = 0; k < s.k; ++k) {
        Exact exact;
        exact.add(before);
        for (int64_t n = 0; n < s.n; ++n)
          exact.add(value_in_rows(p.dy_rows, t, n) *
                    w[static_cast<size_t>((e * s.n + n) * s.k + k)]);
        check("dx", number(p.dx, t, k), exact);
      }
    }
    for (int64_t n = 0; n < s.n; ++n)
      for (int64_t k = 0; k < s.k; ++k) {
        Exact exact;
        exact.add(before);
        for (int64_t t = first; t < end; ++t)
          exact.add(value_in_columns(p.dy_columns, s, t, n) *
                    value_in_columns(p.x_columns, s, t, k));
        check("dw", p.dw.data<float>()[(e * s.n + n) * s.k + k], exact);
      }
  }
}

TEST(GemmFp8, AgreesWithFloat64OfWhatTheCodesStandFor) {
  Context ctx(Device::cpu, 2);
  for (const Sizes& s : kAllSizes) {
    SCOPED_TRACE(testing::Message()
                 << s.rows << "x" << s.n << "x" << s.k << " experts " << s.experts());
    Problem p(ctx, s, normal);
    for (Accumulate accumulate : {Accumulate::no, Accumulate::yes}) {
      for (const Tensor& result : {p.y, p.dx, p.dw})
        std::fill_n(result.data<float>(), result.numel(), 0.25f);
      p.run(ctx, accumulate);
      for_each_element(p, accumulate == Accumulate::yes ? 0.25 : 0,
                       [](const char* name, double got, Exact exact) {
                         ASSERT_NEAR(got, exact.sum, 1e-6 * exact.magnitude) << name;
                       });
    }
  }
}

// Every sum is exact, so every index, tile and padding error shows at tolerance zero.
TEST(GemmFp8, ExactOnSmallIntegers) {
  Context ctx(Device::cpu, 2);
  for (const Sizes& s : kAllSizes) {
    Problem p(ctx, s, small_integer);
    p.run(ctx, Accumulate::no);
    for_each_element(
        p, 0, [](const char* name, double got, Exact exact) { ASSERT_EQ(got, exact.sum) << name; });
  }
}

// 1 - 2ab / (aa + bb): the measure DeepGEMM's tests use.
struct Difference {
  double ab = 0, aa = 0, bb = 0;
  void add(double a, double b) { ab += a * b, aa += a * a, bb += b * b; }
  double value() const { return 1 - 2 * ab / (aa + bb); }
};

TEST(GemmFp8, CloseToTheProductOfTheNumbersThemselves) {
  Context ctx(Device::cpu, 2);
  for (const Sizes& s : {dense(130, 200, 300), Sizes{700, 136, 72, {0, 3, 400, 400, 690}}}) {
    Problem p(ctx, s, normal);
    p.run(ctx, Accumulate::no);
    Difference y, dx, dw;
    for (int64_t e = 0; e < s.experts(); ++e) {
      const int64_t first = s.offsets[static_cast<size_t>(e)],
                    end = s.offsets[static_cast<size_t>(e) + 1];
      const auto dot = [](int64_t count, const auto& a, const auto& b) {
        double sum = 0;
        for (int64_t i = 0; i < count; ++i) sum += a(i) * b(i);
        return sum;
      };
      for (int64_t t = first; t < end; ++t) {
        for (int64_t n = 0; n < s.n; ++n)
          y.add(number(p.y, t, n), dot(
                                       s.k, [&](int64_t k) { return number(p.x, t, k); },
                                       [&](int64_t k) { return number(p.w, e * s.n + n, k); }));
        for (int64_t k = 0; k < s.k; ++k)
          dx.add(number(p.dx, t, k), dot(
                                         s.n, [&](int64_t n) { return number(p.dy, t, n); },
                                         [&](int64_t n) { return number(p.w, e * s.n + n, k); }));
      }
      for (int64_t n = 0; n < s.n; ++n)
        for (int64_t k = 0; k < s.k; ++k)
          dw.add(p.dw.data<float>()[(e * s.n + n) * s.k + k],
                 dot(
                     end - first, [&](int64_t t) { return number(p.dy, first + t, n); },
                     [&](int64_t t) { return number(p.x, first + t, k); }));
    }
    EXPECT_LT(y.value(), 1e-3);
    EXPECT_LT(dx.value(), 1e-3);
    EXPECT_LT(dw.value(), 1e-3);
    EXPECT_GT(y.value(), 1e-5);  // it is FP8 after all
  }
}

std::vector<float> copy_of(const Tensor& tensor) {
  const auto span = tensor.span<float>();
  return {span.begin(), span.end()};
}

TEST(GemmFp8, SameBitsOnAnyNumberOfThreads) {
  const Sizes s{640, 330, 700, {0, 5, 5, 600, 640}};
  Context one(Device::cpu, 1);
  Problem expected(one, s, normal);
  expected.run(one, Accumulate::no);
  for (int threads : {2, 5}) {
    Context ctx(Device::cpu, threads);
    Problem p(ctx, s, normal);
    p.run(ctx, Accumulate::no);
    EXPECT_EQ(copy_of(p.y), copy_of(expected.y));
    EXPECT_EQ(copy_of(p.dx), copy_of(expected.dx));
    EXPECT_EQ(copy_of(p.dw), copy_of(expected.dw));
  }
}

TEST(GemmFp8, RowsDoNotDependOnEachOther) {
  Context ctx(Device::cpu, 2);
  const Tensor x = draw(ctx, 333, 1100, 1, normal);
  PackedWeight packed(Orientation::forward);
  packed.pack(ctx, draw(ctx, 77, 1100, 2, normal), DType::e4m3);
  const Tensor all = ctx.empty({333, 77}, DType::bf16, Purpose::activations);
  linear(ctx, in_rows(ctx, x, kActivationScales), packed, all);
  for (int64_t count : {1, 2, 11, 48, 200}) {
    const Tensor some = ctx.empty({count, 77}, DType::bf16, Purpose::activations);
    linear(ctx, in_rows(ctx, x.slice_rows(332 - count, count), kActivationScales), packed, some);
    EXPECT_EQ(std::memcmp(some.raw(), all.slice_rows(332 - count, count).raw(),
                          static_cast<size_t>(some.bytes())),
              0);
  }
}

// A power of two that all of an operand carries changes no code, so it only scales the result: the
// loss of a step may be divided by any global count.
TEST(GemmFp8, ScaledGradientsGiveScaledResults) {
  Context ctx(Device::cpu, 1);
  const Sizes s{130, 48, 200, {0, 50, 130}};
  Problem p(ctx, s, normal);
  p.run(ctx, Accumulate::no);
  for (int exponent : {-20, -40}) {
    Problem scaled(ctx, s, normal);
    const Tensor dy = draw(ctx, s.rows, s.n, 2, normal);
    for (int64_t i = 0; i < dy.numel(); ++i)
      dy.data<float>()[i] = std::ldexp(dy.data<float>()[i], exponent);
    scaled.dy_rows = in_rows(ctx, dy, kGradientScales);
    scaled.dy_columns = in_columns(ctx, dy, s, kGradientScales);
    EXPECT_EQ(std::memcmp(scaled.dy_rows.codes_RC.raw(), p.dy_rows.codes_RC.raw(),
                          static_cast<size_t>(dy.numel())),
              0);
    scaled.run(ctx, Accumulate::no);
    for (int64_t i = 0; i < p.dw.numel(); ++i)
      ASSERT_EQ(scaled.dw.data<float>()[i], std::ldexp(p.dw.data<float>()[i], exponent));
    for (int64_t i = 0; i < p.dx.numel(); ++i)
      ASSERT_EQ(scaled.dx.data<float>()[i], std::ldexp(p.dx.data<float>()[i], exponent));
  }
}

TEST(GemmFp8, NanReachesTheResult) {
  Context ctx(Device::cpu, 1);
  const Tensor x = draw(ctx, 3, 140, 1, normal);
  x.data<float>()[140 + 135] = std::nanf("");
  PackedWeight packed;
  packed.pack(ctx, draw(ctx, 20, 140, 2, normal), DType::e4m3);
  const Tensor y = ctx.empty({3, 20}, DType::f32, Purpose::activations);
  linear(ctx, in_rows(ctx, x, kActivationScales), packed, y);
  for (int64_t i = 0; i < y.numel(); ++i) EXPECT_EQ(std::isnan(y.data<float>()[i]), i / 20 == 1);
}

TEST(GemmFp8, IsRecordedAsFp8) {
  Context ctx(Device::meta, 1);
  PackedWeight packed;
  packed.pack(ctx, ctx.empty({96, 600}, DType::f32, Purpose::weights), DType::e4m3);
  const Fp8Matrix x = empty_fp8(ctx, 40, 600, ScaleLayout::rows_1x128, Purpose::activations);
  std::vector<Cost> ops;
  ctx.record_ops(&ops);
  linear(ctx, x, packed, ctx.empty({40, 96}, DType::bf16, Purpose::activations));
  ASSERT_EQ(ops.size(), 1u);
  EXPECT_EQ(ops[0].operands, DType::e4m3);
  EXPECT_EQ(ops[0].bytes, 40 * 600 * (1 + 4.0 / 128) + 40 * 96 * 2 + 96 * 600);
}

TEST(GemmFp8, WrongOperandsAreErrors) {
  Context ctx(Device::cpu, 1);
  const Tensor x = draw(ctx, 4, 6, 1, normal), y = draw(ctx, 4, 5, 2, normal);
  PackedWeight packed, half;
  packed.pack(ctx, draw(ctx, 5, 6, 3, normal), DType::e4m3);
  half.pack(ctx, draw(ctx, 5, 6, 3, normal), DType::bf16);
  const Sizes s = dense(4, 5, 6);
  const Fp8Matrix rows = in_rows(ctx, x, kActivationScales),
                  columns = in_columns(ctx, x, s, kActivationScales);
  EXPECT_NO_THROW(linear(ctx, rows, packed, y));
  EXPECT_THROW(linear(ctx, x, packed, y), InternalError);
  EXPECT_THROW(linear(ctx, rows, half, y), InternalError);
  EXPECT_THROW(linear(ctx, columns, packed, y), InternalError);
  const Tensor dw = draw(ctx, 5, 6, 4, normal);
  EXPECT_THROW(linear_weight_gradient(ctx, y, columns, dw), InternalError);
  EXPECT_THROW(linear_weight_gradient(ctx, in_rows(ctx, y, kGradientScales), columns, dw),
               InternalError);
}

}  // namespace
}  // namespace strait
