#include "core/ops/cuda/quantize.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/quantize_reference.h"

namespace strait::cuda {
namespace {

class QuantizeOnGpu : public GpuTest, public ::testing::WithParamInterface<QuantizeSize> {};

// The first place where two arrays differ, for a message.
template <class T>
std::string first_difference(const std::vector<T>& got, const std::vector<T>& want,
                             int64_t row_length) {
  for (size_t i = 0; i < want.size(); i++) {
    if (got[i] == want[i]) continue;
    return "(" + std::to_string(i / row_length) + ", " + std::to_string(i % row_length) +
           "): got " + std::to_string(got[i]) + ", want " + std::to_string(want[i]);
  }
  return "";
}

template <class Call>
void check(const QuantizeSize& size, ScaleLayout layout, const Quantized& want,
           const std::vector<uint16_t>& x, void (*quantize)(const Call&, cudaStream_t)) {
  const Quantized start(size.rows, size.cols, layout);
  const Buffer x_d = upload(x), q = upload(start.q), scales = upload(start.scales);
  const Buffer transposed = upload(start.transposed),
               transposed_scales = upload(start.transposed_scales);
  quantize({x_d.data(), size.rows, size.cols, q.as<uint8_t>(), scales.as<float>(),
            transposed.as<uint8_t>(), transposed_scales.as<float>()},
           nullptr);
  EXPECT_EQ(first_difference(download<uint8_t>(q), want.q, size.cols), "");
  EXPECT_EQ(first_difference(download<float>(scales), want.scales,
                             scale_stride(layout, size.rows, size.cols)),
            "");
  EXPECT_EQ(first_difference(download<uint8_t>(transposed), want.transposed, size.rows), "");
  EXPECT_EQ(first_difference(download<float>(transposed_scales), want.transposed_scales,
                             scale_stride(layout, size.cols, size.rows)),
            "");
}

TEST_P(QuantizeOnGpu, RowsHaveTheBitsOfTheCpu) {
  const std::vector<uint16_t> x = matrix_to_quantize(GetParam().rows, GetParam().cols, 1);
  check(GetParam(), ScaleLayout::rows_1x128, quantized_rows(x, GetParam().rows, GetParam().cols), x,
        quantize_rows);
}

TEST_P(QuantizeOnGpu, BlocksHaveTheBitsOfTheCpu) {
  const std::vector<uint16_t> x = matrix_to_quantize(GetParam().rows, GetParam().cols, 2);
  check(GetParam(), ScaleLayout::blocks_128x128,
        quantized_blocks(x, GetParam().rows, GetParam().cols), x, quantize_blocks);
}

INSTANTIATE_TEST_SUITE_P(Sizes, QuantizeOnGpu, ::testing::ValuesIn(kQuantizeSizes),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.cols);
                         });

}  // namespace
}  // namespace strait::cuda
