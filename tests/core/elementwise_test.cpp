#include "core/ops/elementwise.h"

#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

struct Case {
  int64_t rows, cols;
  DType x, y;
};

class Elementwise : public ::testing::TestWithParam<Case> {
 protected:
  const int64_t rows_ = GetParam().rows, cols_ = GetParam().cols;
  const DType x_type_ = GetParam().x, y_type_ = GetParam().y;
  const Numbers x_ = test::random_numbers(rows_ * cols_, 1, 3, x_type_);
  const Numbers y_ = test::random_numbers(rows_ * cols_, 2, 3, y_type_);

  // Runs `op` on contiguous tensors with 1, 2 and 4 threads and on column views; all give
  // `expected`, to the bit, and the columns around a view stay as they were.
  template <class Op>
  void expect_result(const Numbers& expected, const char* what, Op op) const {
    for (int threads : {1, 2, 4}) {
      Context ctx(Device::cpu, threads);
      Tensor y = test::tensor_of(ctx, {rows_, cols_}, y_type_, y_);
      op(ctx, test::tensor_of(ctx, {rows_, cols_}, x_type_, x_), y);
      test::expect_same_bits(test::read(y), expected, what);
      Tensor wide = test::tensor_of(ctx, {rows_, cols_ + 5}, y_type_,
                                    Numbers(static_cast<size_t>(rows_ * (cols_ + 5)), 77));
      Tensor view = wide.slice_cols(2, cols_);
      test::write(view, y_);
      op(ctx, test::view_of(ctx, rows_, cols_, x_type_, x_), view);
      test::expect_same_bits(test::read(view), expected, what);
      for (int64_t c : {int64_t{0}, int64_t{1}, cols_ + 2, cols_ + 3, cols_ + 4})
        EXPECT_EQ(test::read(wide.slice_cols(c, 1)), Numbers(static_cast<size_t>(rows_), 77))
            << what;
    }
  }
  // y_[i] <- f(x_[i], y_[i]) in FP32, rounded to y's type.
  template <class F>
  Numbers each(F f) const {
    Numbers result;
    for (size_t i = 0; i < x_.size(); ++i)
      result.push_back(
          test::rounded(f(static_cast<float>(x_[i]), static_cast<float>(y_[i])), y_type_));
    return result;
  }
};

TEST_P(Elementwise, Cast) {
  expect_result(each([](float x, float) { return x; }), "cast",
                [](Context& ctx, const Tensor& x, Tensor& y) { cast(ctx, x, y); });
}
TEST_P(Elementwise, Add) {
  expect_result(each([](float x, float y) { return y + x; }), "add",
                [](Context& ctx, const Tensor& x, Tensor& y) { add(ctx, x, y); });
}
TEST_P(Elementwise, Fill) {
  expect_result(each([](float, float) { return 0.3f; }), "fill",
                [](Context& ctx, const Tensor&, Tensor& y) { fill(ctx, 0.3, y); });
}

TEST_P(Elementwise, SumOfSquares) {
  double expected = 0, first = 0;
  for (double x : x_) expected += x * x;
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    const Tensor x = test::tensor_of(ctx, {rows_, cols_}, x_type_, x_);
    const double sum = sum_of_squares(ctx, x);
    if (threads == 1) first = sum;
    test::expect_same_bits({sum}, {first}, "threads");
    EXPECT_NEAR(sum, expected, 1e-14 * expected * std::sqrt(static_cast<double>(x_.size())));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, Elementwise,
    ::testing::Values(Case{0, 5, DType::f32, DType::f32}, Case{3, 0, DType::f32, DType::bf16},
                      Case{1, 1, DType::bf16, DType::bf16}, Case{7, 17, DType::f32, DType::bf16},
                      Case{3, 129, DType::bf16, DType::f32}, Case{1, 4097, DType::f32, DType::f32},
                      Case{130, 301, DType::bf16, DType::bf16},
                      Case{70, 523, DType::f32, DType::f32}));

// Every BF16 value and its neighbourhood: the rounding is to nearest even, NaN stays NaN, and a
// copy keeps the bits.
TEST(CastOp, RoundsAllOfBf16ToNearestEven) {
  Context ctx(Device::cpu, 2);
  Numbers numbers, expected;
  for (uint32_t high = 0; high < 0x10000; high += 7) {
    for (uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const uint32_t bits = high << 16 | low;
      float value;
      std::memcpy(&value, &bits, 4);
      if (std::isnan(value)) continue;
      numbers.push_back(value);
      expected.push_back(to_float(to_bfloat16(value)));
    }
  }
  const Shape shape{static_cast<int64_t>(numbers.size())};
  Tensor half = ctx.empty(shape, DType::bf16, Purpose::activations);
  cast(ctx, test::tensor_of(ctx, shape, DType::f32, numbers), half);
  test::expect_same_bits(test::read(half), expected, "rounded");
}

TEST(CastOp, ACopyKeepsTheBitsOfANaN) {
  Context ctx(Device::cpu, 1);
  Tensor x = ctx.empty({20}, DType::f32, Purpose::activations),
         y = ctx.zeros({20}, DType::f32, Purpose::activations);
  const uint32_t signalling = 0x7f800123u;
  for (int i = 0; i < 20; ++i) std::memcpy(x.data<float>() + i, &signalling, 4);
  cast(ctx, x, y);
  EXPECT_EQ(std::memcmp(x.raw(), y.raw(), 80), 0);
  Tensor half = ctx.empty({20}, DType::bf16, Purpose::activations);
  cast(ctx, x, half);
  for (const double value : test::read(half)) EXPECT_TRUE(std::isnan(value));
}

// Squares that FP32 could neither hold nor add.
TEST(SumOfSquaresOp, SumsInFp64) {
  Context ctx(Device::cpu, 2);
  const Numbers numbers{3e30, 1, 4e30, 1e-30};
  EXPECT_DOUBLE_EQ(
      sum_of_squares(ctx, test::tensor_of(ctx, {4}, DType::f32, numbers)),
      std::pow(static_cast<double>(3e30f), 2) + std::pow(static_cast<double>(4e30f), 2));
}

TEST(ElementwiseOp, BillsOnMetaAndNamesWhatIsWrong) {
  Context meta(Device::meta, 1);
  const Tensor x = meta.empty({3, 8}, DType::f32, Purpose::activations);
  Tensor y = meta.empty({3, 8}, DType::bf16, Purpose::activations);
  cast(meta, x, y);
  EXPECT_EQ(meta.spent().bytes, 24 * (4 + 2));
  meta.reset_spent();
  add(meta, x, y);
  EXPECT_EQ(meta.spent().bytes, 24 * (4 + 2 + 2));
  EXPECT_EQ(meta.spent().flops, 24);
  fill(meta, 2, y);
  EXPECT_EQ(sum_of_squares(meta, x), 0);
  Tensor narrow = meta.empty({3, 7}, DType::f32, Purpose::activations);
  EXPECT_THROW(cast(meta, x, narrow), InternalError);
  EXPECT_THROW(add(meta, x, narrow), InternalError);
  Tensor ids = meta.empty({3, 8}, DType::i32, Purpose::activations);
  EXPECT_THROW(fill(meta, 2, ids), InternalError);
  EXPECT_THROW(sum_of_squares(meta, x.slice_cols(1, 3)), InternalError);
}

}  // namespace
}  // namespace strait
