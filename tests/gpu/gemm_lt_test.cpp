#include "core/ops/cuda/gemm_lt.h"

#include <algorithm>

#include "tests/gpu/fp8_data.h"
#include "tests/gpu/gpu_test.h"

namespace strait::cuda {
namespace {

TEST(GemmLtRefuses, WhatCublasLtDoesNotTakeByName) {
  GemmShape shape;
  shape.m = shape.n = shape.k = 256;
  EXPECT_EQ(why_refused(shape), "");
  shape.k = 264;
  EXPECT_EQ(why_refused(shape), "k = 264 is no positive multiple of 16 (rows of FP8 at 16 bytes)");
  shape.k = 576;
  EXPECT_EQ(why_refused(shape), "");
  shape.m = 12;
  EXPECT_EQ(why_refused(shape), "m = 12 is no positive multiple of 8 (cuBLASLt, FP8)");
  shape.m = 0;
  EXPECT_EQ(why_refused(shape), "m = 0 is no positive multiple of 8 (cuBLASLt, FP8)");
  shape.m = 8;
  shape.x_layout = ScaleLayout::blocks_128x128;
  EXPECT_EQ(why_refused(shape), "both operands have 128x128 scales; at least one takes 1x128");
}

TEST(Scales, HaveCublasLtsRoundedStrides) {
  // 576 columns are 5 blocks, and take 8 floats.
  EXPECT_EQ(scale_stride(ScaleLayout::blocks_128x128, 7168, 576), 8);
  EXPECT_EQ(num_scales(ScaleLayout::blocks_128x128, 7168, 576), 56 * 8);
  EXPECT_EQ(scale_index(ScaleLayout::blocks_128x128, 7168, 576, 300, 575), 2 * 8 + 4);
  EXPECT_EQ(num_scales(ScaleLayout::rows_1x128, 10, 129), 2 * 12);
  EXPECT_EQ(scale_index(ScaleLayout::rows_1x128, 10, 129, 9, 128), 12 + 9);
}

struct Case {
  const char* name;
  int64_t m, n, k;
  ScaleLayout x, w;
  GemmOutput output = GemmOutput::bf16;
  bool accumulate = false;
  Data data = Data::exact;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class GemmLtFp8 : public GpuTest, public ::testing::WithParamInterface<Case> {};

TEST_P(GemmLtFp8, EqualsReference) {
  const Case& c = GetParam();
  const Fp8Matrix x = make_matrix(c.m, c.k, c.x, c.data, 1),
                  w = make_matrix(c.n, c.k, c.w, c.data, 2);
  const Buffer x_q = upload(x.q), x_s = upload(x.scales), w_q = upload(w.q), w_s = upload(w.scales);
  const bool f32 = c.output == GemmOutput::f32;
  const std::vector<float> before(c.m * c.n, 3.0f);
  const Buffer d = c.accumulate ? upload(before) : poisoned(c.m * c.n * (f32 ? 4 : 2));
  GemmLt lt;
  const GemmShape shape{GemmInput::fp8, c.output, c.m, c.n, c.k, c.x, c.w, 0};
  lt.run(shape, {x_q.data(), w_q.data(), d.data(), x_s.as<float>(), w_s.as<float>(), c.accumulate},
         nullptr);
  const std::vector<float> got = f32 ? download<float>(d) : floats_of_bf16(download<uint16_t>(d));

  const std::vector<float> x_values = x.values(), w_values = w.values();
  std::vector<float> want(c.m * c.n);
  for (int64_t i = 0; i < c.m; i++) {
    for (int64_t j = 0; j < c.n; j++) {
      const double sum = dot(x_values, i, w_values, j, c.k, 0, c.k) + (c.accumulate ? 3 : 0);
      want[i * c.n + j] = f32 ? static_cast<float>(sum) : rounded_to_bf16(sum);
    }
  }
  if (c.data == Data::random) {
    EXPECT_LT(calc_diff(got, want), 1e-5);
    return;
  }
  const auto partial = [&](int64_t i, int64_t j, int64_t k) {
    return dot(x_values, i, w_values, j, c.k, k * 128, std::min(k * 128 + 128, c.k));
  };
  EXPECT_EQ(differences(got, want, c.m, c.n, ceil_div(c.k, 128), partial), "");
}

constexpr auto kRows = ScaleLayout::rows_1x128;
constexpr auto kBlocks = ScaleLayout::blocks_128x128;
INSTANTIATE_TEST_SUITE_P(
    Shapes, GemmLtFp8,
    ::testing::Values(
        Case{"forward", 256, 384, 512, kRows, kBlocks}, Case{"m8", 8, 512, 1024, kRows, kBlocks},
        Case{"k576", 256, 256, 576, kRows, kBlocks}, Case{"k128", 128, 128, 128, kRows, kBlocks},
        Case{"k64", 128, 128, 64, kRows, kBlocks},
        Case{"odd_multiples", 136, 264, 272, kRows, kBlocks},
        Case{"blocks_of_x", 256, 136, 640, kBlocks, kRows},
        Case{"f32", 128, 256, 384, kRows, kBlocks, GemmOutput::f32},
        Case{"wgrad", 256, 384, 512, kRows, kRows, GemmOutput::f32},
        Case{"wgrad_adds", 256, 384, 512, kRows, kRows, GemmOutput::f32, true},
        Case{"wgrad_adds_k576", 136, 264, 576, kRows, kRows, GemmOutput::f32, true},
        Case{"random", 512, 384, 2048, kRows, kBlocks, GemmOutput::bf16, false, Data::random}),
    [](const auto& info) { return std::string(info.param.name); });

class GemmLtOnGpu : public GpuTest {};

TEST_F(GemmLtOnGpu, KeepsAPlanPerShape) {
  const Buffer x = poisoned(1 << 16), w = poisoned(1 << 16), d = poisoned(1 << 16);
  GemmLt lt;
  GemmShape shape{GemmInput::bf16, GemmOutput::bf16, 64, 64, 64, kRows, kRows, 0};
  for (int i = 0; i < 3; i++)
    lt.run(shape, {x.data(), w.data(), d.data(), nullptr, nullptr, false}, nullptr);
  EXPECT_EQ(lt.num_plans(), 1u);
  shape.m = 128;
  lt.run(shape, {x.data(), w.data(), d.data(), nullptr, nullptr, false}, nullptr);
  EXPECT_EQ(lt.num_plans(), 2u);
}

TEST_F(GemmLtOnGpu, Bf16EqualsReference) {
  const int64_t m = 136, n = 72, k = 200;
  std::mt19937 engine(1);
  std::vector<float> x(m * k), w(n * k);
  const auto fill = [&](std::vector<float>& values) {
    std::vector<uint16_t> bits(values.size());
    for (size_t i = 0; i < values.size(); i++) {
      values[i] = static_cast<float>(static_cast<int>(engine() % 15) - 7);
      bits[i] = to_bfloat16(values[i]).bits;
    }
    return upload(bits);
  };
  const Buffer x_d = fill(x), w_d = fill(w), d = poisoned(m * n * 4);
  GemmLt lt;
  lt.run({GemmInput::bf16, GemmOutput::f32, m, n, k, kRows, kRows, 0},
         {x_d.data(), w_d.data(), d.data(), nullptr, nullptr, false}, nullptr);
  std::vector<float> want(m * n);
  for (int64_t i = 0; i < m; i++) {
    for (int64_t j = 0; j < n; j++) want[i * n + j] = static_cast<float>(dot(x, i, w, j, k, 0, k));
  }
  EXPECT_EQ(differences(download<float>(d), want, m, n), "");
}

}  // namespace
}  // namespace strait::cuda
