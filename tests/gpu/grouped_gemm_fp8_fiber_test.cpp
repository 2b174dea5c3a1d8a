// The grouped products' own source, run on the CPU: tiles, ring of stages, barriers, swizzles.
#include <gtest/gtest.h>

#include "tests/gpu/ptx_cpu.h"
//
#include "core/ops/cuda/kernels/grouped_gemm_fp8.cuh"
#include "tests/gpu/expert_rows.h"
#include "tests/gpu/fp8_data.h"

namespace strait::cuda {
using namespace grouped_fp8;

namespace {

struct Case {
  const char* name;
  std::vector<int> counts;
  int64_t n, k;  // wgrad: x's and dy's features
  int64_t rows;  // of the buffer; 0: as many as the experts take
};

class GroupedFiber : public ::testing::TestWithParam<Case> {};

constexpr unsigned kBlocks = 4;

TEST_P(GroupedFiber, GemmEqualsReference) {
  const Case& shape = GetParam();
  const ExpertRows layout(shape.counts);
  const int64_t rows = shape.rows > 0 ? shape.rows : layout.rows() + 128,
                used = std::min(rows, layout.rows());
  const auto experts = static_cast<int64_t>(shape.counts.size());
  const Fp8Matrix x = make_matrix(rows, shape.k, ScaleLayout::rows_1x128, Data::exact, 1);
  std::vector<std::vector<float>> w_values;
  std::vector<uint8_t> w;
  std::vector<float> w_scales;
  for (int64_t e = 0; e < experts; e++) {
    const Fp8Matrix one =
        make_matrix(shape.n, shape.k, ScaleLayout::blocks_128x128, Data::exact, 2 + e);
    w_values.push_back(one.values());
    w.insert(w.end(), one.q.begin(), one.q.end());
    w_scales.insert(w_scales.end(), one.scales.begin(), one.scales.end());
  }
  std::vector<uint16_t> y(rows * shape.n, 0xffff);
  const int num_blocks = layout.blocks();
  const CUtensorMap x_map =
      make_cpu_tensor_map({TmaType::e4m3, x.q.data(), rows, shape.k, kTileM, kTileK, true});
  const CUtensorMap x_scales = make_cpu_tensor_map(
      {TmaType::f32, x.scales.data(), ceil_div(shape.k, 128), rows, 1, kTileM, false});
  const CUtensorMap w_map = make_cpu_tensor_map(
      {TmaType::e4m3, w.data(), experts * shape.n, shape.k, kGemmTileN, kTileK, true});
  const CUtensorMap y_map =
      make_cpu_tensor_map({TmaType::bf16, y.data(), rows, shape.n, kGroupRows, kBoxColumns, true});
  fiber::run({kBlocks, kThreads, sizeof(Shared<kGemmTileN>)}, 1, [&] {
    gemm_kernel(x_map, x_scales, w_map, y_map, w_scales.data(), layout.block_expert.data(),
                &num_blocks, gemm_sizes(shape.n, shape.k));
  });

  const std::vector<float> x_values = x.values(), all = floats_of_bf16(y);
  const auto expert_of = [&](int64_t row) { return layout.block_expert[row / kExpertAlignment]; };
  std::vector<float> want(used * shape.n), got(all.begin(), all.begin() + used * shape.n);
  for (int64_t r = 0; r < used; r++) {
    for (int64_t c = 0; c < shape.n; c++) {
      want[r * shape.n + c] =
          rounded_to_bf16(dot(x_values, r, w_values[expert_of(r)], c, shape.k, 0, shape.k));
    }
  }
  EXPECT_EQ(differences(got, want, used, shape.n), "");
  for (int64_t i = used * shape.n; i < rows * shape.n; i++)
    ASSERT_TRUE(std::isnan(all[i])) << i / shape.n;
}

TEST_P(GroupedFiber, WgradAddsReference) {
  const Case& shape = GetParam();
  const int64_t m = shape.k, n = shape.n;
  const ExpertRows layout(shape.counts);
  const int64_t rows = layout.rows() + 128, blocks = rows / 128;
  const auto experts = static_cast<int64_t>(shape.counts.size());
  Fp8Matrix dy = make_matrix(m, rows, ScaleLayout::rows_1x128, Data::exact, 1);
  Fp8Matrix x = make_matrix(n, rows, ScaleLayout::rows_1x128, Data::exact, 2);
  layout.clear_padding(dy);
  layout.clear_padding(x);
  std::vector<float> dw(experts * m * n, 1.0f), want = dw;
  const WgradSizes sizes{static_cast<int>(m), static_cast<int>(n), static_cast<int>(experts)};
  const CUtensorMap dy_map =
      make_cpu_tensor_map({TmaType::e4m3, dy.q.data(), m, rows, kTileM, kTileK, true});
  const CUtensorMap dy_scales =
      make_cpu_tensor_map({TmaType::f32, dy.scales.data(), blocks, m, 1, kTileM, false});
  const CUtensorMap x_map =
      make_cpu_tensor_map({TmaType::e4m3, x.q.data(), n, rows, kWgradTileN, kTileK, true});
  const CUtensorMap x_scales =
      make_cpu_tensor_map({TmaType::f32, x.scales.data(), blocks, n, 1, kWgradTileN, false});
  const CUtensorMap dw_map =
      make_cpu_tensor_map({TmaType::f32, dw.data(), experts * m, n, kAddRows, kAddColumns, true});
  fiber::run({kBlocks, kThreads, sizeof(Shared<kWgradTileN>)}, 2, [&] {
    wgrad_kernel(dy_map, dy_scales, x_map, x_scales, dw_map, layout.first_block.data(),
                 layout.end_block.data(), sizes);
  });
  const std::vector<float> dy_values = dy.values(), x_values = x.values();
  for (int64_t e = 0; e < experts; e++) {
    for (int64_t i = 0; i < m; i++) {
      for (int64_t j = 0; j < n; j++) {
        want[(e * m + i) * n + j] +=
            static_cast<float>(dot(dy_values, i, x_values, j, rows, layout.first_block[e] * 128,
                                   layout.end_block[e] * 128));
      }
    }
  }
  EXPECT_EQ(differences(dw, want, experts * m, n), "");
}

INSTANTIATE_TEST_SUITE_P(Shapes, GroupedFiber,
                         ::testing::Values(Case{"one_tile", {128}, 128, 128, 0},
                                           Case{"ring_wraps", {900}, 128, 896, 0},
                                           Case{"ragged", {200, 0, 1}, 392, 272, 0},
                                           Case{"rows8", {8}, 256, 576, 8}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace strait::cuda
