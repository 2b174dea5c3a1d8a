#include "core/ops/cuda/grouped_gemm_fp8.h"

#include <algorithm>
#include <numeric>

#include "core/ops/cuda/tile_order.h"
#include "tests/gpu/expert_rows.h"
#include "tests/gpu/fp8_data.h"
#include "tests/gpu/gpu_test.h"

namespace strait::cuda {
namespace {

TEST(TileOrder, VisitsEveryTileOnce) {
  for (int num_m : {1, 2, 7, 8, 9, 20}) {
    for (int num_n : {1, 3, 16}) {
      std::vector<int> visits(num_m * num_n);
      for (int tile = 0; tile < num_m * num_n; tile++) {
        const auto [m, n] = tile_at(tile, num_m, num_n);
        ASSERT_TRUE(m >= 0 && m < num_m && n >= 0 && n < num_n)
            << tile << " of " << num_m << " x " << num_n;
        visits[m * num_n + n]++;
      }
      EXPECT_EQ(std::count(visits.begin(), visits.end(), 1), num_m * num_n)
          << num_m << " x " << num_n;
    }
  }
}

struct Case {
  const char* name;
  std::vector<int> counts;
  int64_t n, k;
  int64_t rows;  // of the buffer; 0: as many as the experts take
  Data data = Data::exact;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::string test_name(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }

class GroupedGemm : public GpuTest, public ::testing::WithParamInterface<Case> {};

TEST_P(GroupedGemm, EqualsReference) {
  const Case& shape = GetParam();
  const ExpertRows layout(shape.counts);
  const int64_t rows = shape.rows > 0 ? shape.rows : layout.rows() + 128,
                used = std::min(rows, layout.rows());
  const auto experts = static_cast<int>(shape.counts.size());
  const Fp8Matrix x = make_matrix(rows, shape.k, ScaleLayout::rows_1x128, shape.data, 1);
  std::vector<std::vector<float>> w_values;
  std::vector<uint8_t> w;
  std::vector<float> w_scales;
  for (int e = 0; e < experts; e++) {
    const Fp8Matrix one =
        make_matrix(shape.n, shape.k, ScaleLayout::blocks_128x128, shape.data, 2 + e);
    w_values.push_back(one.values());
    w.insert(w.end(), one.q.begin(), one.q.end());
    w_scales.insert(w_scales.end(), one.scales.begin(), one.scales.end());
  }
  const Buffer x_q = upload(x.q), x_s = upload(x.scales), w_q = upload(w), w_s = upload(w_scales);
  const Buffer block_expert = upload(layout.block_expert),
               num_blocks = upload(std::vector<int>{layout.blocks()});
  const Buffer y = poisoned(rows * shape.n * 2);
  GroupedGemmFp8 gemm{rows,
                      shape.n,
                      shape.k,
                      experts,
                      x_q.data(),
                      x_s.as<float>(),
                      w_q.data(),
                      w_s.as<float>(),
                      y.data(),
                      block_expert.as<int>(),
                      num_blocks.as<int>()};
  grouped_gemm_fp8(gemm, nullptr);
  const std::vector<float> all = floats_of_bf16(download<uint16_t>(y));

  const std::vector<float> x_values = x.values();
  const auto expert_of = [&](int64_t row) { return layout.block_expert[row / kExpertAlignment]; };
  std::vector<float> want(used * shape.n), got(all.begin(), all.begin() + used * shape.n);
  for (int64_t r = 0; r < used; r++) {
    for (int64_t c = 0; c < shape.n; c++) {
      want[r * shape.n + c] =
          rounded_to_bf16(dot(x_values, r, w_values[expert_of(r)], c, shape.k, 0, shape.k));
    }
  }
  if (shape.data == Data::exact) {
    const auto partial = [&](int64_t r, int64_t c, int64_t k) {
      return dot(x_values, r, w_values[expert_of(r)], c, shape.k, k * 128,
                 std::min(k * 128 + 128, shape.k));
    };
    EXPECT_EQ(differences(got, want, used, shape.n, ceil_div(shape.k, 128), partial), "");
  } else {
    EXPECT_LT(calc_diff(got, want), 1e-5);  // what rounding to BF16 leaves
  }
  for (int64_t i = used * shape.n; i < rows * shape.n; i++) {
    ASSERT_TRUE(std::isnan(all[i]))
        << "row " << i / shape.n << " stands past the last expert and was written";
  }
}

const Case kGemmCases[] = {
    {"one_tile", {128}, 128, 128, 0},
    {"two_k", {128}, 128, 256, 0},
    {"ring_wraps", {128}, 128, 1536, 0},
    {"four_tiles", {256}, 256, 128, 0},
    {"k576", {128}, 256, 576, 0},
    {"k64", {128}, 128, 64, 0},
    {"n136", {128}, 136, 256, 0},
    {"n384", {256}, 384, 256, 0},
    {"rows8", {8}, 256, 256, 8},
    {"rows200", {200}, 128, 384, 200},
    {"ragged", {200, 0, 128, 1}, 384, 640, 0},
    {"one_has_all", {0, 0, 700, 0}, 256, 384, 0},
    {"no_rows", {0, 0}, 256, 256, 0},
    {"many_tiles", {700, 300, 0, 1500}, 640, 384, 0},
    {"random", {300, 200}, 384, 1024, 0, Data::random},
};
INSTANTIATE_TEST_SUITE_P(Shapes, GroupedGemm, ::testing::ValuesIn(kGemmCases), test_name);

class GroupedWgrad : public GpuTest, public ::testing::WithParamInterface<Case> {};

TEST_P(GroupedWgrad, AddsReference) {
  const Case& shape = GetParam();
  const int64_t m = shape.k, n = shape.n;  // here k counts dy's features
  const ExpertRows layout(shape.counts);
  const int64_t rows = layout.rows() + 128;
  const auto experts = static_cast<int>(shape.counts.size());
  Fp8Matrix dy = make_matrix(m, rows, ScaleLayout::rows_1x128, shape.data, 1);
  Fp8Matrix x = make_matrix(n, rows, ScaleLayout::rows_1x128, shape.data, 2);
  layout.clear_padding(dy);
  layout.clear_padding(x);
  std::vector<float> before(experts * m * n);
  for (size_t i = 0; i < before.size(); i++) before[i] = static_cast<float>(i % 17) - 8;
  const Buffer dy_q = upload(dy.q), dy_s = upload(dy.scales), x_q = upload(x.q),
               x_s = upload(x.scales);
  const Buffer first = upload(layout.first_block), end = upload(layout.end_block),
               dw = upload(before);
  const GroupedWgradFp8 gemm{rows,
                             m,
                             n,
                             experts,
                             dy_q.data(),
                             dy_s.as<float>(),
                             x_q.data(),
                             x_s.as<float>(),
                             dw.as<float>(),
                             first.as<int>(),
                             end.as<int>()};
  grouped_wgrad_fp8(gemm, nullptr);
  const std::vector<float> got = download<float>(dw);

  const std::vector<float> dy_values = dy.values(), x_values = x.values();
  std::vector<float> want = before;
  for (int e = 0; e < experts; e++) {
    for (int64_t i = 0; i < m; i++) {
      for (int64_t j = 0; j < n; j++) {
        want[(e * m + i) * n + j] +=
            static_cast<float>(dot(dy_values, i, x_values, j, rows, layout.first_block[e] * 128,
                                   layout.end_block[e] * 128));
      }
    }
  }
  if (shape.data == Data::exact) {
    const auto partial = [&](int64_t row, int64_t col, int64_t k) {
      const int64_t block = layout.first_block[row / m] + k;
      return block < layout.end_block[row / m]
                 ? dot(dy_values, row % m, x_values, col, rows, block * 128, block * 128 + 128)
                 : 0.0;
    };
    EXPECT_EQ(differences(got, want, experts * m, n, layout.blocks(), partial), "");
  } else {
    // FP32 rounds each scaled sum of 128 to 2^-24 of its size, and the tensor cores keep fewer bits
    // of a product's sum: some 2^-14 of its largest term (the DeepSeek-V3 report, 3.3.2). Squared,
    // and over many independent sums, that is below 2^-26.
    EXPECT_LT(calc_diff(got, want), 1.5e-8);
  }
}

const Case kWgradCases[] = {
    {"one_tile", {128}, 128, 128, 0},
    {"two_k", {256}, 128, 128, 0},
    {"ring_wraps", {1500}, 128, 128, 0},
    {"four_tiles", {128}, 256, 256, 0},
    {"odd_sizes", {200, 130}, 136, 72, 0},
    {"ragged", {200, 0, 128, 1}, 384, 256, 0},
    {"one_has_all", {0, 0, 700, 0}, 256, 128, 0},
    {"no_rows", {0, 0}, 128, 128, 0},
    {"many_tiles", {300, 129, 0, 500}, 640, 640, 0},
    {"random", {300, 200}, 384, 256, 0, Data::random},
};
INSTANTIATE_TEST_SUITE_P(Shapes, GroupedWgrad, ::testing::ValuesIn(kWgradCases), test_name);

// Large shapes against the plain twins, on the device: every element; all multiprocessors, or 20.
class GroupedAgainstTwin : public GpuTest, public ::testing::WithParamInterface<int> {};

TEST_P(GroupedAgainstTwin, Gemm) {
  const ExpertRows layout({1024, 77, 0, 513});
  const int64_t rows = layout.rows(), n = 4096, k = 7168;
  const Fp8Matrix x = make_matrix(rows, k, ScaleLayout::rows_1x128, Data::exact, 1);
  const Fp8Matrix w =
      make_matrix(4 * n, k, ScaleLayout::blocks_128x128, Data::exact, 2);  // n: whole blocks
  const Buffer x_q = upload(x.q), x_s = upload(x.scales), w_q = upload(w.q), w_s = upload(w.scales);
  const Buffer block_expert = upload(layout.block_expert),
               num_blocks = upload(std::vector<int>{layout.blocks()});
  const Buffer y = poisoned(rows * n * 2), twin = poisoned(rows * n * 2);
  GroupedGemmFp8 gemm{rows,
                      n,
                      k,
                      4,
                      x_q.data(),
                      x_s.as<float>(),
                      w_q.data(),
                      w_s.as<float>(),
                      y.data(),
                      block_expert.as<int>(),
                      num_blocks.as<int>(),
                      GetParam()};
  grouped_gemm_fp8(gemm, nullptr);
  gemm.y = twin.data();
  grouped_gemm_fp8_plain(gemm, nullptr);
  EXPECT_EQ(differences(floats_of_bf16(download<uint16_t>(y)),
                        floats_of_bf16(download<uint16_t>(twin)), rows, n),
            "");
}

TEST_P(GroupedAgainstTwin, Wgrad) {
  const ExpertRows layout({1024, 0, 640});
  const int64_t rows = layout.rows(), m = 4096, n = 2048;
  const Fp8Matrix dy = make_matrix(m, rows, ScaleLayout::rows_1x128, Data::exact, 1);
  const Fp8Matrix x = make_matrix(n, rows, ScaleLayout::rows_1x128, Data::exact, 2);
  const Buffer dy_q = upload(dy.q), dy_s = upload(dy.scales), x_q = upload(x.q),
               x_s = upload(x.scales);
  const Buffer first = upload(layout.first_block), end = upload(layout.end_block);
  const std::vector<float> before(3 * m * n, 1.0f);
  const Buffer dw = upload(before), twin = upload(before);
  GroupedWgradFp8 gemm{rows,
                       m,
                       n,
                       3,
                       dy_q.data(),
                       dy_s.as<float>(),
                       x_q.data(),
                       x_s.as<float>(),
                       dw.as<float>(),
                       first.as<int>(),
                       end.as<int>(),
                       GetParam()};
  grouped_wgrad_fp8(gemm, nullptr);
  gemm.dw = twin.as<float>();
  grouped_wgrad_fp8_plain(gemm, nullptr);
  EXPECT_EQ(differences(download<float>(dw), download<float>(twin), 3 * m, n), "");
}

INSTANTIATE_TEST_SUITE_P(Multiprocessors, GroupedAgainstTwin, ::testing::Values(0, 20));

}  // namespace
}  // namespace strait::cuda
