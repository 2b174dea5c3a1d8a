// tests/gpu/grouped_fiber.h: the grouped products' own source on the CPU, compared with a
// reference.
#pragma once

#include "tests/gpu/ptx_cpu.h"
//
#include "core/ops/cuda/kernels/grouped_gemm_fp8.cuh"
#include "tests/gpu/expert_rows.h"
#include "tests/gpu/fp8_data.h"

namespace strait::cuda {

struct GroupedCase {
  const char* name;
  std::vector<int> counts;
  int64_t n, k;  // wgrad: x's and dy's features
  int64_t rows;  // of the buffer; 0: as many as the experts take
};

// The two kernels of one source, with their arguments but for the sizes' types.
struct GroupedKernels {
  std::function<void(const CUtensorMap& x, const CUtensorMap& x_scales, const CUtensorMap& w,
                     const CUtensorMap& y, const float* w_scales, const int* block_expert,
                     const int* num_blocks, int64_t n, int64_t k)>
      gemm;
  std::function<void(const CUtensorMap& dy, const CUtensorMap& dy_scales, const CUtensorMap& x,
                     const CUtensorMap& x_scales, const CUtensorMap& dw, const int* first_block,
                     const int* end_block, int m, int n, int experts)>
      wgrad;
};

// The kernels of namespace `source`.
#define STRAIT_GROUPED_KERNELS(source)                                                             \
  ::strait::cuda::GroupedKernels {                                                                 \
    [](const CUtensorMap& x, const CUtensorMap& x_scales, const CUtensorMap& w,                    \
       const CUtensorMap& y, const float* w_scales, const int* block_expert,                       \
       const int* num_blocks, int64_t n, int64_t k) {                                              \
      ::strait::cuda::source::gemm_kernel(x, x_scales, w, y, w_scales, block_expert, num_blocks,   \
                                          ::strait::cuda::source::gemm_sizes(n, k));               \
    },                                                                                             \
        [](const CUtensorMap& dy, const CUtensorMap& dy_scales, const CUtensorMap& x,              \
           const CUtensorMap& x_scales, const CUtensorMap& dw, const int* first_block,             \
           const int* end_block, int m, int n, int experts) {                                      \
          ::strait::cuda::source::wgrad_kernel(dy, dy_scales, x, x_scales, dw, first_block,        \
                                               end_block,                                          \
                                               ::strait::cuda::source::WgradSizes{m, n, experts}); \
        }                                                                                          \
  }

constexpr unsigned kFiberBlocks = 4;

// What is wrong with y, or an empty string. Throws what the fibers throw.
inline std::string gemm_problem(const GroupedKernels& kernels, const GroupedCase& shape,
                                unsigned seed) {
  using namespace grouped_fp8;
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
  fiber::run({kFiberBlocks, kThreads, sizeof(Shared<kGemmTileN>)}, seed, [&] {
    kernels.gemm(x_map, x_scales, w_map, y_map, w_scales.data(), layout.block_expert.data(),
                 &num_blocks, shape.n, shape.k);
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
  for (int64_t i = used * shape.n; i < rows * shape.n; i++) {
    if (!std::isnan(all[i])) return "row " + std::to_string(i / shape.n) + " was written";
  }
  return differences(got, want, used, shape.n);
}

// What is wrong with dw, or an empty string. Throws what the fibers throw.
inline std::string wgrad_problem(const GroupedKernels& kernels, const GroupedCase& shape,
                                 unsigned seed) {
  using namespace grouped_fp8;
  const int64_t m = shape.k, n = shape.n;
  const ExpertRows layout(shape.counts);
  const int64_t rows = layout.rows() + 128, blocks = rows / 128;
  const auto experts = static_cast<int64_t>(shape.counts.size());
  Fp8Matrix dy = make_matrix(m, rows, ScaleLayout::rows_1x128, Data::exact, 1);
  Fp8Matrix x = make_matrix(n, rows, ScaleLayout::rows_1x128, Data::exact, 2);
  layout.clear_padding(dy);
  layout.clear_padding(x);
  std::vector<float> dw(experts * m * n, 1.0f), want = dw;
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
  fiber::run({kFiberBlocks, kThreads, sizeof(Shared<kWgradTileN>)}, seed, [&] {
    kernels.wgrad(dy_map, dy_scales, x_map, x_scales, dw_map, layout.first_block.data(),
                  layout.end_block.data(), static_cast<int>(m), static_cast<int>(n),
                  static_cast<int>(experts));
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
  return differences(dw, want, experts * m, n);
}

}  // namespace strait::cuda
