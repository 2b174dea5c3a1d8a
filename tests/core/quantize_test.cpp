#include "core/ops/quantize.h"

#include "core/ops/math/fp8.h"
#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

struct Expected {
  std::vector<uint8_t> codes;
  std::vector<float> scales;  // -1: none
};

float scale_of(double max, const QuantizeSettings& settings) {
  const float scale = fp8_scale(std::max(static_cast<float>(max), settings.least_max));
  return settings.power_of_two ? power_of_two_scale(scale) : scale;
}

// Tile by tile, element by element.
Expected expected(const Numbers& x, int64_t rows, int64_t cols, int64_t tile_rows,
                  int64_t tile_cols, ScaleLayout layout, const QuantizeSettings& settings) {
  Expected result{std::vector<uint8_t>(x.size()),
                  std::vector<float>(static_cast<size_t>(num_scales(layout, rows, cols)), -1)};
  for (int64_t row = 0; row < rows; row += tile_rows)
    for (int64_t col = 0; col < cols; col += tile_cols) {
      const auto each = [&](const auto& body) {
        for (int64_t r = row; r < std::min(row + tile_rows, rows); ++r)
          for (int64_t c = col; c < std::min(col + tile_cols, cols); ++c)
            body(static_cast<size_t>(r * cols + c));
      };
      double max = 0;
      each([&](size_t i) { max = std::isnan(x[i]) ? max : std::max(max, std::fabs(x[i])); });
      const float scale = scale_of(max, settings);
      result.scales[static_cast<size_t>(scale_index(layout, rows, cols, row, col))] = scale;
      each([&](size_t i) { result.codes[i] = to_e4m3(static_cast<float>(x[i]) / scale); });
    }
  return result;
}

Numbers transposed(const Numbers& x, int64_t rows, int64_t cols) {
  Numbers y(x.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      y[static_cast<size_t>(c * rows + r)] = x[static_cast<size_t>(r * cols + c)];
  return y;
}

void expect_equal(const Fp8Matrix& got, const Expected& want, const char* what) {
  const auto codes = got.codes_RC.span<uint8_t>();
  Numbers seen, wanted;
  for (size_t i = 0; i < want.codes.size(); ++i) {
    seen.push_back(codes[i]);
    wanted.push_back(want.codes[i]);
  }
  const auto scales = got.scales.span<float>();
  for (size_t i = 0; i < want.scales.size(); ++i) {
    if (want.scales[i] < 0) continue;
    seen.push_back(scales[i]);
    wanted.push_back(want.scales[i]);
  }
  test::expect_same_bits(seen, wanted, what);
}

struct Case {
  int64_t rows, cols;
  DType dtype;
  QuantizeSettings settings;
};

// Magnitudes over the format's range, with tiles of zeros and of denormals.
Numbers matrix(const Case& c) {
  Numbers x = test::random_numbers(c.rows * c.cols, 1, 1, c.dtype);
  for (int64_t r = 0; r < c.rows; ++r)
    for (int64_t col = 0; col < c.cols; ++col) {
      double& number = x[static_cast<size_t>(r * c.cols + col)];
      number = std::ldexp(number, static_cast<int>((r * 31 + col * 17) % 23) - 12);
      if (r % 5 == 2 || col / 128 == 1) number = 0;
      if (r % 5 == 4) number = std::ldexp(number, -118);
      number = test::rounded(number, c.dtype);
    }
  return x;
}

class Quantize : public ::testing::TestWithParam<Case> {};

TEST_P(Quantize, EveryTileByItself) {
  const Case& c = GetParam();
  Context ctx(Device::cpu, 2);
  const Numbers x = matrix(c);
  const Tensor x_RC = test::view_of(ctx, c.rows, c.cols, c.dtype, x);
  const auto empty = [&](int64_t rows, int64_t cols, ScaleLayout layout) {
    return empty_fp8(ctx, rows, cols, layout, Purpose::activations);
  };
  Fp8Matrix rows = empty(c.rows, c.cols, ScaleLayout::rows_1x128);
  quantize_rows(ctx, x_RC, c.settings, rows);
  expect_equal(rows, expected(x, c.rows, c.cols, 1, 128, ScaleLayout::rows_1x128, c.settings),
               "1x128");
  Fp8Matrix columns = empty(c.cols, c.rows, ScaleLayout::rows_1x128);
  quantize_columns(ctx, x_RC, c.settings, columns);
  expect_equal(columns,
               expected(transposed(x, c.rows, c.cols), c.cols, c.rows, 1, 128,
                        ScaleLayout::rows_1x128, c.settings),
               "128x1");
  Fp8Matrix blocks = empty(c.rows, c.cols, ScaleLayout::blocks_128x128);
  quantize_blocks(ctx, x_RC, c.settings, blocks);
  expect_equal(blocks,
               expected(x, c.rows, c.cols, 128, 128, ScaleLayout::blocks_128x128, c.settings),
               "128x128");

  for (const Fp8Matrix* q : {&rows, &blocks}) {
    Numbers values(x.size());
    const auto codes = q->codes_RC.span<uint8_t>();
    for (int64_t i = 0; i < c.rows * c.cols; ++i)
      values[static_cast<size_t>(i)] =
          from_e4m3(codes[static_cast<size_t>(i)]) *
          q->scales.data<float>()[scale_index(q->layout, c.rows, c.cols, i / c.cols, i % c.cols)];
    Tensor back = test::view_of(ctx, c.rows, c.cols, DType::f32, Numbers(x.size(), 5));
    dequantize(ctx, *q, back);
    test::expect_same_bits(test::read(back), values, "dequantised");
    Fp8Matrix again = empty(c.cols, c.rows, ScaleLayout::rows_1x128);
    requantize_columns(ctx, *q, c.settings, again);
    expect_equal(again,
                 expected(transposed(values, c.rows, c.cols), c.cols, c.rows, 1, 128,
                          ScaleLayout::rows_1x128, c.settings),
                 "requantised");
  }
}

TEST_P(Quantize, E5m6KeepsPairsOfCodes) {
  const Case& c = GetParam();
  Context ctx(Device::cpu, 2);
  const Numbers x = matrix(c);
  const Tensor x_RC = test::view_of(ctx, c.rows, c.cols, c.dtype, x);
  E5m6Matrix q = empty_e5m6(ctx, c.rows, c.cols, Purpose::activations);
  quantize_e5m6(ctx, x_RC, q);
  Tensor back = test::view_of(ctx, c.rows, c.cols, DType::f32, Numbers(x.size(), 5));
  dequantize_e5m6(ctx, q, back);
  Numbers want(x.size());
  for (int64_t r = 0; r < c.rows; ++r)
    for (int64_t col = 0; col < c.cols; col += 128) {
      float max = 0;
      const auto at = [&](int64_t i) { return static_cast<size_t>(r * c.cols + i); };
      const int64_t end = std::min(col + 128, c.cols);
      for (int64_t i = col; i < end; ++i)
        max = std::max(max, std::fabs(static_cast<float>(x[at(i)])));
      const float scale = e5m6_scale(max);
      for (int64_t i = col; i < end; ++i)
        want[at(i)] = E5m6::decode(E5m6::encode(static_cast<float>(x[at(i)]) / scale)) * scale;
    }
  test::expect_same_bits(test::read(back), want, "E5M6");
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, Quantize,
    ::testing::Values(
        Case{1, 1, DType::f32, {}}, Case{128, 128, DType::bf16, {}},
        Case{130, 136, DType::f32, {.least_max = kLeastPublishedMax}},
        Case{5, 301, DType::bf16, {.power_of_two = true}},
        Case{257, 264, DType::bf16, {.least_max = kLeastPublishedMax, .power_of_two = true}},
        Case{40, 512, DType::f32, {.power_of_two = true}}));

// Gradients are as small as global counts make them: their codes do not depend on it.
TEST(Quantize, CodesOfGradientsDoNotDependOnTheLossesScale) {
  Context ctx(Device::cpu, 1);
  const Numbers x = test::random_numbers(64 * 256, 3);
  std::vector<uint8_t> first;
  for (const int exponent : {0, -20, -30, -40}) {
    Numbers scaled = x;
    for (double& number : scaled) number = std::ldexp(number, exponent);
    Fp8Matrix q = empty_fp8(ctx, 64, 256, ScaleLayout::rows_1x128, Purpose::activations);
    quantize_rows(ctx, test::tensor_of(ctx, {64, 256}, DType::f32, scaled), {}, q);
    const auto codes = q.codes_RC.span<uint8_t>();
    if (first.empty()) first.assign(codes.begin(), codes.end());
    EXPECT_TRUE(std::equal(codes.begin(), codes.end(), first.begin())) << exponent;
  }
  EXPECT_GT(std::count(first.begin(), first.end(), 0x7e), 0);  // the largest of some tile
}

TEST(Quantize, WhatIsNotFiniteDoesNotVanish) {
  Context ctx(Device::cpu, 1);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {std::nan(""), infinity, -infinity}) {
    Numbers x(2 * 160, 1.0);
    x[7] = bad;
    const Tensor x_RC = test::tensor_of(ctx, {2, 160}, DType::f32, x);
    Tensor back = ctx.empty({2, 160}, DType::f32, Purpose::activations);
    Fp8Matrix rows = empty_fp8(ctx, 2, 160, ScaleLayout::rows_1x128, Purpose::activations);
    quantize_rows(ctx, x_RC, {}, rows);
    dequantize(ctx, rows, back);
    EXPECT_TRUE(std::isnan(back.data<float>()[7])) << bad;
    EXPECT_EQ(back.data<float>()[160], 1) << "another tile";
    Fp8Matrix columns = empty_fp8(ctx, 160, 2, ScaleLayout::rows_1x128, Purpose::activations);
    quantize_columns(ctx, x_RC, {}, columns);
    EXPECT_EQ(columns.codes_RC.data<uint8_t>()[2 * 7] & 0x7f, 0x7f) << bad;
  }
}

TEST(Quantize, RefusesWhatDoesNotFit) {
  Context ctx(Device::cpu, 1);
  const Tensor x = ctx.zeros({4, 64}, DType::f32, Purpose::activations);
  Fp8Matrix wrong = empty_fp8(ctx, 4, 65, ScaleLayout::rows_1x128, Purpose::activations);
  EXPECT_THROW(quantize_rows(ctx, x, {}, wrong), InternalError);
  Fp8Matrix blocks = empty_fp8(ctx, 4, 64, ScaleLayout::blocks_128x128, Purpose::activations);
  EXPECT_THROW(quantize_rows(ctx, x, {}, blocks), InternalError);
}

TEST(QuantizeRowsAndBlocks, WhatIsNotFiniteIsTold) {
  Context ctx(Device::cpu, 2);
  const auto told = [&](double number, int64_t at, DType dtype, bool blocks) {
    Numbers x = test::random_numbers(70 * 150, 3, 1, dtype);
    if (at >= 0) x[static_cast<size_t>(at)] = number;
    const Tensor x_RC = test::tensor_of(ctx, {70, 150}, dtype, x);
    Fp8Matrix q =
        empty_fp8(ctx, 70, 150, blocks ? ScaleLayout::blocks_128x128 : ScaleLayout::rows_1x128,
                  Purpose::activations);
    if (blocks)
      quantize_blocks(ctx, x_RC, {}, q);
    else
      quantize_rows(ctx, x_RC, {}, q);
    const bool result = ctx.take_not_finite();
    EXPECT_FALSE(ctx.take_not_finite());
    return result;
  };
  for (DType dtype : {DType::f32, DType::bf16})
    for (bool blocks : {false, true}) {
      EXPECT_FALSE(told(0, -1, dtype, blocks));
      EXPECT_FALSE(told(3e38, 77, dtype, blocks));
      for (int64_t at : {0, 149, 150 * 69 + 133}) {
        EXPECT_TRUE(told(NAN, at, dtype, blocks)) << at;
        EXPECT_TRUE(told(-INFINITY, at, dtype, blocks)) << at;
      }
    }
}

// The CPU's form of tiles of 128 x 1 holds what the transposed form of each group alone holds.
TEST(QuantizeColumns, GroupsAreQuantisedApartAndInPlace) {
  Context ctx(Device::cpu, 2);
  const std::vector<int64_t> offsets{0, 5, 5, 300, 428, 430};
  const int64_t rows = 440, cols = 150, groups = static_cast<int64_t>(offsets.size()) - 1;
  for (DType dtype : {DType::f32, DType::bf16}) {
    const Case c{rows, cols, dtype, {}};
    const Tensor x = test::tensor_of(ctx, {rows, cols}, dtype, matrix(c));
    Fp8Matrix in_rows = empty_fp8(ctx, rows, cols, ScaleLayout::rows_1x128, Purpose::activations);
    quantize_rows(ctx, x, kActivationScales, in_rows);
    const auto check = [&](const Fp8Matrix& got, const auto& transposed_of) {
      int64_t tile = 0;
      for (size_t g = 0; g + 1 < offsets.size(); ++g) {
        const int64_t first = offsets[g], count = offsets[g + 1] - first;
        if (count == 0) continue;
        Fp8Matrix alone =
            empty_fp8(ctx, cols, count, ScaleLayout::rows_1x128, Purpose::activations);
        transposed_of(first, count, alone);
        const auto scale = [&](int64_t row, int64_t col) {
          return alone.scales
              .data<float>()[scale_index(ScaleLayout::rows_1x128, cols, count, col, row)];
        };
        for (int64_t r = 0; r < count; ++r)
          for (int64_t col = 0; col < cols; ++col) {
            ASSERT_EQ(got.codes_RC.data<uint8_t>()[(first + r) * cols + col],
                      alone.codes_RC.data<uint8_t>()[col * count + r])
                << first + r << ", " << col;
            ASSERT_EQ(got.scales.data<float>()[(tile + r / 128) * round_up(cols, 4) + col],
                      scale(r, col))
                << first + r << ", " << col;
          }
        tile += ceil_div(count, 128);
      }
    };
    Fp8Matrix q = empty_fp8_columns(ctx, rows, cols, groups, Purpose::activations);
    quantize_columns(ctx, x, offsets, kGradientScales, q);
    check(q, [&](int64_t first, int64_t count, Fp8Matrix& alone) {
      quantize_columns(ctx, x.slice_rows(first, count), kGradientScales, alone);
    });
    requantize_columns(ctx, in_rows, offsets, kActivationScales, q);
    Tensor plain = ctx.empty({rows, cols}, DType::f32, Purpose::activations);
    dequantize(ctx, in_rows, plain);
    check(q, [&](int64_t first, int64_t count, Fp8Matrix& alone) {
      quantize_columns(ctx, plain.slice_rows(first, count), kActivationScales, alone);
    });
  }
}

}  // namespace
}  // namespace strait
