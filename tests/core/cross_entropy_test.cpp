#include "core/ops/cross_entropy.h"

#include <limits>

#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

// Negative log-likelihood of one row in FP64.
double reference(const Numbers& row, int64_t target) {
  const double max = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (double x : row) sum += std::exp(x - max);
  return std::log(sum) + max - row[static_cast<size_t>(target)];
}

struct Case {
  int64_t rows, cols;
  double spread;
};

class CrossEntropy : public ::testing::TestWithParam<Case> {
 protected:
  const int64_t rows_ = GetParam().rows, cols_ = GetParam().cols;
  const Numbers logits_ = test::random_numbers(rows_ * cols_, 1, GetParam().spread);
  Numbers targets_;  // every third is ignored
  void SetUp() override {
    std::mt19937 random(5);
    for (int64_t r = 0; r < rows_; ++r)
      targets_.push_back(r % 3 == 2 ? -1
                                    : static_cast<double>(random() % static_cast<uint32_t>(cols_)));
  }
  Numbers row(int64_t r) const {
    return Numbers(logits_.begin() + r * cols_, logits_.begin() + (r + 1) * cols_);
  }
};

TEST_P(CrossEntropy, LossMatchesFp64) {
  Context ctx(Device::cpu, 2);
  const Tensor targets = test::tensor_of(ctx, {rows_}, DType::i32, targets_);
  Tensor nll = ctx.empty({rows_}, DType::f32, Purpose::activations);
  const Tensor logits = test::view_of(ctx, rows_, cols_, DType::f32, logits_);
  cross_entropy(ctx, logits, targets, nll);
  Numbers expected;
  for (int64_t r = 0; r < rows_; ++r) {
    const auto target = static_cast<int64_t>(targets_[static_cast<size_t>(r)]);
    expected.push_back(target < 0 ? 0 : reference(row(r), target));
  }
  test::expect_near(test::read(nll), expected, 1e-6, "nll");
  test::expect_same_bits(test::read(logits), logits_, "logits are left as they were");
}

TEST_P(CrossEntropy, GradientMatchesFiniteDifferences) {
  Context ctx(Device::cpu, 2);
  const double scale = 0.37;
  const Tensor targets = test::tensor_of(ctx, {rows_}, DType::i32, targets_);
  Tensor nll = ctx.empty({rows_}, DType::f32, Purpose::activations),
         plain = ctx.empty({rows_}, DType::f32, Purpose::activations);
  Tensor logits = test::view_of(ctx, rows_, cols_, DType::f32, logits_);
  cross_entropy(ctx, logits, targets, plain);
  cross_entropy_with_gradient(ctx, logits, targets, scale, nll);
  test::expect_same_bits(test::read(nll), test::read(plain),
                         "the same loss with and without gradient");
  for (int64_t r = 0; r < rows_; ++r) {
    const auto target = static_cast<int64_t>(targets_[static_cast<size_t>(r)]);
    Numbers expected(static_cast<size_t>(cols_));
    double loss = 0;
    if (target >= 0) {
      loss = reference(row(r), target);
      // Differences over many columns would take cols^2 steps: the formula there.
      if (cols_ <= 100) {
        expected = test::finite_differences(
            row(r), [&](const Numbers& x) { return scale * reference(x, target); });
      } else {
        const Numbers x = row(r);
        const double log_sum = loss + x[static_cast<size_t>(target)];
        for (size_t c = 0; c < x.size(); ++c) expected[c] = scale * std::exp(x[c] - log_sum);
        expected[static_cast<size_t>(target)] -= scale;
      }
    }
    test::expect_near(test::read(logits.slice_rows(r, 1)), expected, 1e-5, "gradient",
                      test::difference_noise(scale * loss) + scale * test::unit(DType::f32));
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, CrossEntropy,
                         ::testing::Values(Case{0, 5, 1}, Case{1, 1, 1}, Case{4, 2, 3},
                                           Case{7, 17, 2}, Case{3, 100, 30}, Case{5, 1024, 4},
                                           Case{4, 5003, 6}));

TEST(CrossEntropyOp, FarLogitsNeitherOverflowNorVanish) {
  Context ctx(Device::cpu, 1);
  Tensor logits =
      test::tensor_of(ctx, {2, 4}, DType::f32, {1e4, -1e4, 9.9e3, 1e4, -3e38, -3e38, -3e38, 0});
  Tensor nll = ctx.empty({2}, DType::f32, Purpose::activations);
  cross_entropy_with_gradient(ctx, logits, test::tensor_of(ctx, {2}, DType::i32, {1, 3}), 1, nll);
  test::expect_near(test::read(nll), {2e4 + std::log(2.0), 0}, 1e-6, "nll");
  test::expect_near(test::read(logits), {0.5, -1, 0, 0.5, 0, 0, 0, 0}, 1e-6, "gradient");
}

TEST(CrossEntropyOp, WhatIsNotFiniteShowsInTheLoss) {
  Context ctx(Device::cpu, 1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (double bad : {nan, static_cast<double>(HUGE_VALF)}) {
    for (int64_t cols : {3, 20, 1500}) {
      Numbers row(static_cast<size_t>(cols), 0.5);
      row[static_cast<size_t>(cols - 2)] = bad;
      const Tensor logits = test::tensor_of(ctx, {1, cols}, DType::f32, row);
      Tensor nll = ctx.empty({1}, DType::f32, Purpose::activations);
      cross_entropy(ctx, logits, test::tensor_of(ctx, {1}, DType::i32, {0}), nll);
      EXPECT_FALSE(std::isfinite(test::read(nll)[0])) << bad << " in " << cols;
    }
  }
}

TEST(CrossEntropyOp, BitsDependNeitherOnThreadsNorOnOtherRows) {
  const int64_t rows = 60, cols = 1100;
  const Numbers numbers = test::random_numbers(rows * cols, 6, 3);
  Numbers targets;
  for (int64_t r = 0; r < rows; ++r) targets.push_back(static_cast<double>(r * 17 % cols));
  Numbers first_nll, first_gradient;
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    Tensor logits = test::tensor_of(ctx, {rows, cols}, DType::f32, numbers);
    Tensor nll = ctx.empty({rows}, DType::f32, Purpose::activations);
    cross_entropy_with_gradient(ctx, logits, test::tensor_of(ctx, {rows}, DType::i32, targets), 1,
                                nll);
    if (threads == 1) first_nll = test::read(nll), first_gradient = test::read(logits);
    test::expect_same_bits(test::read(nll), first_nll, "nll");
    test::expect_same_bits(test::read(logits), first_gradient, "gradient");
    Tensor one = test::tensor_of(ctx, {1, cols}, DType::f32,
                                 Numbers(numbers.begin() + 41 * cols, numbers.begin() + 42 * cols));
    Tensor one_nll = ctx.empty({1}, DType::f32, Purpose::activations);
    cross_entropy_with_gradient(ctx, one, test::tensor_of(ctx, {1}, DType::i32, {targets[41]}), 1,
                                one_nll);
    test::expect_same_bits(test::read(one), test::read(logits.slice_rows(41, 1)),
                           "one row's gradient");
    test::expect_same_bits(test::read(one_nll), {first_nll[41]}, "one row's loss");
  }
}

TEST(CrossEntropyOp, ATargetOutsideTheVocabularyIsADataError) {
  Context ctx(Device::cpu, 1);
  Tensor logits = test::tensor_of(ctx, {2, 4}, DType::f32, Numbers(8, 1));
  Tensor nll = ctx.empty({2}, DType::f32, Purpose::activations);
  for (double bad : {4.0, -2.0}) {
    const Tensor targets = test::tensor_of(ctx, {2}, DType::i32, {0, bad});
    EXPECT_THROW(cross_entropy(ctx, logits, targets, nll), DataError);
    EXPECT_THROW(cross_entropy_with_gradient(ctx, logits, targets, 1, nll), DataError);
  }
  EXPECT_EQ(test::read(logits), Numbers(8, 1));
}

TEST(CrossEntropyOp, BillsOnMetaAndNamesWhatIsWrong) {
  Context meta(Device::meta, 1);
  Tensor logits = meta.empty({3, 10}, DType::f32, Purpose::workspace);
  const Tensor targets = meta.empty({3}, DType::i32, Purpose::data);
  Tensor nll = meta.empty({3}, DType::f32, Purpose::activations);
  cross_entropy(meta, logits, targets, nll);
  EXPECT_EQ(meta.spent().bytes, 3 * 10 * 4);
  cross_entropy_with_gradient(meta, logits, targets, 1, nll);
  EXPECT_EQ(meta.spent().bytes, 3 * (3 * 10 * 4));
  Tensor two = meta.empty({2}, DType::f32, Purpose::activations);
  EXPECT_THROW(cross_entropy(meta, logits, targets, two), InternalError);
  Tensor half = meta.empty({3, 10}, DType::bf16, Purpose::workspace);
  EXPECT_THROW(cross_entropy(meta, half, targets, nll), InternalError);
  Tensor none = meta.empty({3, 0}, DType::f32, Purpose::workspace);
  EXPECT_THROW(cross_entropy(meta, none, targets, nll), InternalError);
}

}  // namespace
}  // namespace strait
