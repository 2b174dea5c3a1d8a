#include "core/ops/rope.h"

#include <numbers>

#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

// Turns every pair of every head by position * frequency, in FP64.
Numbers reference(Numbers x, int64_t cols, const RopeLayout& layout,
                  const RopeTableSettings& settings, double direction) {
  const double amplitude = yarn_mscale(settings.yarn.factor, settings.yarn.mscale) /
                           yarn_mscale(settings.yarn.factor, settings.yarn.mscale_all_dim);
  for (int64_t row = 0; row * cols < static_cast<int64_t>(x.size()); ++row) {
    const auto position = static_cast<double>(layout.start_position + row % layout.sequence_length);
    for (int64_t head = 0; head < layout.num_heads; ++head) {
      for (int64_t pair = 0; pair < settings.rope_dim / 2; ++pair) {
        const double angle = direction * position * rope_frequency(settings, pair);
        double* at = &x[static_cast<size_t>(row * cols + head * layout.head_stride + layout.offset +
                                            2 * pair)];
        const double a = at[0], b = at[1];
        at[0] = amplitude * (a * std::cos(angle) - b * std::sin(angle));
        at[1] = amplitude * (a * std::sin(angle) + b * std::cos(angle));
      }
    }
  }
  return x;
}

struct Case {
  int64_t rows, cols;
  RopeLayout layout;
  int64_t rope_dim;
  DType dtype;
};

const Case kCases[] = {
    {0, 8, {.sequence_length = 4}, 8, DType::f32},
    {1, 2, {.sequence_length = 1}, 2, DType::f32},
    {6, 21, {.num_heads = 3, .head_stride = 7, .offset = 1, .sequence_length = 3}, 6, DType::f32},
    {10, 66, {.offset = 11, .sequence_length = 5, .start_position = 13}, 34, DType::bf16},
    {130,
     384,
     {.num_heads = 4, .head_stride = 96, .offset = 32, .sequence_length = 65},
     64,
     DType::f32},
    {9, 64, {.sequence_length = 9, .start_position = 200}, 64, DType::bf16},
    {4, 12, {.sequence_length = 2}, 0, DType::f32},
};

class Rope : public ::testing::TestWithParam<Case> {
 protected:
  RopeTableSettings settings(double factor) const {
    return {.rope_dim = GetParam().rope_dim,
            .max_positions = 260,
            .yarn = {.factor = factor,
                     .original_max_position_embeddings = 64,
                     .mscale = 0.8,
                     .mscale_all_dim = 0.3}};
  }
  Numbers numbers(uint32_t seed) const {
    return test::random_numbers(GetParam().rows * GetParam().cols, seed, 1, GetParam().dtype);
  }
};

TEST_P(Rope, TurnsPairsAndNothingElse) {
  const auto& [rows, cols, layout, dim, dtype] = GetParam();
  Context ctx(Device::cpu, 2);
  const Numbers before = numbers(1);
  for (double factor : {1.0, 4.0}) {
    const RopeTable table = make_rope_table(ctx, settings(factor));
    for (const RopeDirection direction : {RopeDirection::forward, RopeDirection::inverse}) {
      const Tensor x = test::view_of(ctx, rows, cols, dtype, before);
      rope(ctx, x, layout, table, direction);
      const double sign = direction == RopeDirection::forward ? 1 : -1;
      const Numbers expected = reference(before, cols, layout, settings(factor), sign);
      const Numbers got = test::read(x);
      test::expect_near(got, expected, std::max(test::unit(dtype), 4 * test::unit(DType::f32)),
                        "x");
      // Columns outside the rotated ones keep their bits.
      for (size_t i = 0; i < got.size(); ++i) {
        const int64_t col = static_cast<int64_t>(i) % cols;
        const int64_t head = layout.head_stride > 0 ? col / layout.head_stride : 0;
        const int64_t within = col - head * layout.head_stride - layout.offset;
        if (head < layout.num_heads && within >= 0 && within < dim) continue;
        ASSERT_EQ(got[i], before[i]) << "column " << col;
      }
    }
  }
}

// <rope(x), y> = <x, inverse(y)> for every x and y: the inverse is what a gradient goes through.
TEST_P(Rope, InverseIsTheTranspose) {
  const auto& [rows, cols, layout, dim, dtype] = GetParam();
  Context ctx(Device::cpu, 1);
  const RopeTable table = make_rope_table(ctx, settings(4));
  const Tensor x = test::tensor_of(ctx, {rows, cols}, dtype, numbers(2));
  const Tensor y = test::tensor_of(ctx, {rows, cols}, dtype, numbers(3));
  rope(ctx, x, layout, table, RopeDirection::forward);
  rope(ctx, y, layout, table, RopeDirection::inverse);
  const double left = test::dot(test::read(x), numbers(3)),
               right = test::dot(numbers(2), test::read(y));
  const double terms = std::sqrt(static_cast<double>(rows * cols));
  EXPECT_NEAR(left, right, 4 * test::unit(dtype) * terms);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Rope, ::testing::ValuesIn(kCases));

TEST(RopeOp, BitsDependNeitherOnThreadsNorOnOtherRows) {
  const RopeLayout layout{.num_heads = 2, .head_stride = 24, .offset = 4, .sequence_length = 200};
  const Numbers numbers = test::random_numbers(400 * 48, 4);
  Numbers first;
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    const RopeTable table = make_rope_table(ctx, {.rope_dim = 20, .max_positions = 200});
    const Tensor x = test::tensor_of(ctx, {400, 48}, DType::f32, numbers);
    rope(ctx, x, layout, table, RopeDirection::forward);
    if (threads == 1) first = test::read(x);
    test::expect_same_bits(test::read(x), first, "threads");
    const Tensor one = test::tensor_of(
        ctx, {1, 48}, DType::f32, Numbers(numbers.begin() + 333 * 48, numbers.begin() + 334 * 48));
    RopeLayout at = layout;
    at.sequence_length = 1, at.start_position = 133;
    rope(ctx, one, at, table, RopeDirection::forward);
    test::expect_same_bits(test::read(one), test::read(x.slice_rows(333, 1)), "one row");
  }
}

// The published DeepSeek-V3 settings, worked by hand: with theta 10000 and 64 dimensions, pairs up
// to floor(64 ln(4096 / (32 * 2 pi)) / (2 ln 10000)) = 10 keep their frequency, those from
// ceil(64 ln(4096 / (2 pi)) / (2 ln 10000)) = 23 on are divided by 40.
TEST(RopeTables, YarnOfThePublishedModel) {
  const RopeTableSettings plain{.rope_dim = 64, .max_positions = 8};
  RopeTableSettings yarn = plain;
  yarn.yarn = {.factor = 40, .mscale = 1, .mscale_all_dim = 1};
  for (int64_t pair = 0; pair < 32; ++pair) {
    const double frequency = std::pow(10000.0, -static_cast<double>(pair) / 32);
    EXPECT_NEAR(rope_frequency(plain, pair), frequency, 1e-12 * frequency);
    const double slow = pair <= 10 ? 0 : pair >= 23 ? 1 : static_cast<double>(pair - 10) / 13;
    const double expected = frequency * (1 - slow) + frequency / 40 * slow;
    EXPECT_NEAR(rope_frequency(yarn, pair), expected, 1e-12 * expected) << "pair " << pair;
  }
  EXPECT_NEAR(yarn_mscale(40, 1), 1.3688879454113936, 1e-12);
  EXPECT_EQ(yarn_mscale(1, 1), 1);
  EXPECT_NEAR(attention_softmax_scale(192, yarn.yarn),
              1.3688879454113936 * 1.3688879454113936 / std::sqrt(192.0), 1e-12);
  EXPECT_NEAR(attention_softmax_scale(192, plain.yarn), 1 / std::sqrt(192.0), 1e-15);
  // mscale equals mscale_all_dim: the table carries no factor.
  Context ctx(Device::cpu, 1);
  const Numbers table = test::read(make_rope_table(ctx, yarn).cos_sin);
  EXPECT_EQ(table[0], 1);
  EXPECT_EQ(table[1], 0);
  EXPECT_NEAR(table[64], std::cos(1.0), 1e-7);
  EXPECT_NEAR(table[65], std::sin(1.0), 1e-7);
}

TEST(RopeTables, SaysWhichSettingIsWrong) {
  Context ctx(Device::cpu, 1);
  const RopeTableSettings good{.rope_dim = 8, .max_positions = 4};
  for (int wrong = 0; wrong < 5; ++wrong) {
    RopeTableSettings settings = good;
    if (wrong == 0) settings.rope_dim = 7;
    if (wrong == 1) settings.max_positions = 0;
    if (wrong == 2) settings.theta = 1;
    if (wrong == 3) settings.yarn.factor = 0;
    if (wrong == 4) settings.yarn.beta_fast = 0.5;
    EXPECT_THROW(make_rope_table(ctx, settings), RecipeError) << wrong;
  }
}

TEST(RopeOp, BillsOnMetaAndNamesWhatIsWrong) {
  Context meta(Device::meta, 1);
  const RopeTable table = make_rope_table(meta, {.rope_dim = 8, .max_positions = 4});
  meta.reset_spent();
  const Tensor x = meta.empty({8, 20}, DType::bf16, Purpose::activations);
  const RopeLayout layout{.num_heads = 2, .head_stride = 10, .offset = 2, .sequence_length = 4};
  rope(meta, x, layout, table, RopeDirection::forward);
  EXPECT_EQ(meta.spent().bytes, 8 * 2 * 8 * 2 * 2);
  for (int wrong = 0; wrong < 4; ++wrong) {
    RopeLayout bad = layout;
    if (wrong == 0) bad.num_heads = 3;
    if (wrong == 1) bad.sequence_length = 5;
    if (wrong == 2) bad.start_position = 1;
    if (wrong == 3) bad.offset = 3;
    EXPECT_THROW(rope(meta, x, bad, table, RopeDirection::forward), InternalError) << wrong;
  }
  const Tensor ids = meta.empty({8, 20}, DType::i32, Purpose::activations);
  EXPECT_THROW(rope(meta, ids, layout, table, RopeDirection::forward), InternalError);
}

}  // namespace
}  // namespace strait
