#include "core/ops/rms_norm.h"

#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

constexpr double kEps = 0.05;  // large, so that a row of one element has a gradient to speak of

Numbers reference(const Numbers& x, const Numbers& weight, size_t rows) {
  const size_t cols = weight.size();
  Numbers y(x.size());
  for (size_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (size_t c = 0; c < cols; ++c) squares += x[r * cols + c] * x[r * cols + c];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(cols) + kEps);
    for (size_t c = 0; c < cols; ++c) y[r * cols + c] = x[r * cols + c] * inverse * weight[c];
  }
  return y;
}

struct Case {
  int64_t rows, cols;
  DType x, y;
};

class RmsNorm : public ::testing::TestWithParam<Case> {};

TEST_P(RmsNorm, ForwardMatchesFp64) {
  const auto [rows, cols, x_type, y_type] = GetParam();
  Context ctx(Device::cpu, 2);
  const Numbers x = test::random_numbers(rows * cols, 1, 3, x_type);
  const Numbers weight = test::random_numbers(cols, 2);
  const Tensor weight_H = test::tensor_of(ctx, {cols}, DType::f32, weight);
  Tensor y = ctx.empty({rows, cols}, y_type, Purpose::activations);
  rms_norm(ctx, test::tensor_of(ctx, {rows, cols}, x_type, x), weight_H, kEps, y);
  test::expect_near(test::read(y), reference(x, weight, static_cast<size_t>(rows)),
                    8 * test::unit(y_type), "y");
  Tensor y_view = test::view_of(ctx, rows, cols, y_type, Numbers(x.size()));
  rms_norm(ctx, test::view_of(ctx, rows, cols, x_type, x), weight_H, kEps, y_view);
  test::expect_same_bits(test::read(y_view), test::read(y), "views");
}

TEST_P(RmsNorm, BackwardMatchesFiniteDifferences) {
  const auto [rows, cols, x_type, y_type] = GetParam();
  Context ctx(Device::cpu, 2);
  const Numbers x = test::random_numbers(rows * cols, 3, 1, x_type);
  const Numbers weight = test::random_numbers(cols, 4);
  const Numbers dy = test::random_numbers(rows * cols, 5, 1, y_type);
  const size_t num_rows = static_cast<size_t>(rows);
  // Rows are independent, so each row's gradient is that of its own function.
  Numbers dx;
  for (size_t r = 0; r < num_rows; ++r) {
    const auto row = [&](const Numbers& all) {
      return Numbers(all.begin() + static_cast<int64_t>(r) * cols,
                     all.begin() + static_cast<int64_t>(r + 1) * cols);
    };
    const Numbers dy_row = row(dy);
    const Numbers d = test::finite_differences(
        row(x), [&](const Numbers& v) { return test::dot(reference(v, weight, 1), dy_row); });
    dx.insert(dx.end(), d.begin(), d.end());
  }
  const Numbers d_weight = test::finite_differences(
      weight, [&](const Numbers& w) { return test::dot(reference(x, w, num_rows), dy); });

  const Tensor x_TH = test::view_of(ctx, rows, cols, x_type, x);
  const Tensor dy_TH = test::view_of(ctx, rows, cols, y_type, dy);
  const Tensor weight_H = test::tensor_of(ctx, {cols}, DType::f32, weight);
  for (DType dx_type : {DType::f32, DType::bf16}) {
    Tensor dx_TH = test::view_of(ctx, rows, cols, dx_type, Numbers(x.size(), 5));
    Tensor d_weight_H = test::tensor_of(ctx, {cols}, DType::f32, Numbers(weight.size(), 2));
    rms_norm_backward(ctx, dy_TH, x_TH, weight_H, kEps, Accumulate::no, dx_TH, d_weight_H);
    const double tolerance = std::max(1e-5, test::unit(dx_type));
    test::expect_near(test::read(dx_TH), dx, tolerance, "dx");
    Numbers expected = d_weight;
    for (double& value : expected) value += 2;
    test::expect_near(test::read(d_weight_H), expected, 1e-5, "d_weight");

    rms_norm_backward(ctx, dy_TH, x_TH, weight_H, kEps, Accumulate::yes, dx_TH, d_weight_H);
    Numbers twice = dx;
    for (double& value : twice) value *= 2;
    test::expect_near(test::read(dx_TH), twice, 2 * tolerance, "accumulated dx");
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, RmsNorm,
                         ::testing::Values(Case{1, 1, DType::f32, DType::f32},
                                           Case{3, 17, DType::f32, DType::bf16},
                                           Case{5, 64, DType::bf16, DType::bf16},
                                           Case{2, 83, DType::bf16, DType::f32},
                                           Case{1, 200, DType::f32, DType::f32}));

TEST(RmsNormOp, BitsDependNeitherOnThreadsNorOnOtherRows) {
  const int64_t rows = 301, cols = 77;
  const Numbers x = test::random_numbers(rows * cols, 6), dy = test::random_numbers(rows * cols, 7);
  const Numbers weight = test::random_numbers(cols, 8);
  Numbers first_y, first_dx, first_dw;
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    const Tensor x_TH = test::tensor_of(ctx, {rows, cols}, DType::f32, x);
    const Tensor dy_TH = test::tensor_of(ctx, {rows, cols}, DType::f32, dy);
    const Tensor weight_H = test::tensor_of(ctx, {cols}, DType::f32, weight);
    Tensor y = ctx.empty({rows, cols}, DType::f32, Purpose::activations);
    Tensor dx = ctx.empty({rows, cols}, DType::f32, Purpose::activations);
    Tensor dw = ctx.zeros({cols}, DType::f32, Purpose::gradients);
    rms_norm(ctx, x_TH, weight_H, kEps, y);
    rms_norm_backward(ctx, dy_TH, x_TH, weight_H, kEps, Accumulate::no, dx, dw);
    if (threads == 1) {
      first_y = test::read(y), first_dx = test::read(dx), first_dw = test::read(dw);
      Tensor one = ctx.empty({1, cols}, DType::f32, Purpose::activations), none;
      rms_norm_backward(ctx, dy_TH.slice_rows(200, 1), x_TH.slice_rows(200, 1), weight_H, kEps,
                        Accumulate::no, one, none);
      test::expect_same_bits(test::read(one), test::read(dx.slice_rows(200, 1)), "one row's dx");
      rms_norm(ctx, x_TH.slice_rows(200, 1), weight_H, kEps, one);
      test::expect_same_bits(test::read(one), test::read(y.slice_rows(200, 1)), "one row's y");
    }
    test::expect_same_bits(test::read(y), first_y, "y");
    test::expect_same_bits(test::read(dx), first_dx, "dx");
    test::expect_same_bits(test::read(dw), first_dw, "d_weight");
  }
}

TEST(RmsNormOp, NoRowsAndOneOutputOnly) {
  Context ctx(Device::cpu, 2);
  const Tensor weight = test::tensor_of(ctx, {8}, DType::f32, Numbers(8, 1));
  const Tensor x = ctx.empty({0, 8}, DType::f32, Purpose::activations);
  Tensor y = ctx.empty({0, 8}, DType::bf16, Purpose::activations), none;
  Tensor d_weight = test::tensor_of(ctx, {8}, DType::f32, Numbers(8, 3));
  rms_norm(ctx, x, weight, kEps, y);
  rms_norm_backward(ctx, x, x, weight, kEps, Accumulate::no, none, d_weight);
  EXPECT_EQ(test::read(d_weight), Numbers(8, 3));
}

TEST(RmsNormOp, BillsOnMetaAndNamesWhatIsWrong) {
  Context meta(Device::meta, 1);
  const Tensor x = meta.empty({4, 8}, DType::f32, Purpose::activations);
  const Tensor weight = meta.empty({8}, DType::f32, Purpose::weights);
  Tensor y = meta.empty({4, 8}, DType::bf16, Purpose::activations);
  rms_norm(meta, x, weight, kEps, y);
  EXPECT_EQ(meta.spent().bytes, 4 * 8 * 4 + 8 * 4 + 4 * 8 * 2);
  EXPECT_GT(meta.spent().flops, 0);
  Tensor narrow = meta.empty({4, 7}, DType::bf16, Purpose::activations);
  try {
    rms_norm(meta, x, weight, kEps, narrow);
    FAIL() << "expected an InternalError";
  } catch (const InternalError& error) {
    EXPECT_STREQ(error.what(), "[rms_norm] y: expected [4, 8] f32 or bf16, got [4, 7] bf16");
  }
  Tensor none;
  EXPECT_THROW(rms_norm(meta, none, weight, kEps, y), InternalError);
}

}  // namespace
}  // namespace strait
