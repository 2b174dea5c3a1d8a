// The quantisers' own source, run on the CPU, against the plainest code; and E4M3 against CUDA's
// conversion.
#include <gtest/gtest.h>

#include "tests/gpu/fiber_launch.h"
//
#include <random>

#include "core/ops/cuda/kernels/quantize.cuh"
#include "tests/gpu/quantize_reference.h"

namespace strait::cuda {
namespace {

TEST(E4m3, HasTheBitsOfCudasConversion) {
  for (uint64_t high = 0; high < 1u << 16; high++) {
    for (uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const auto bits = static_cast<uint32_t>(high << 16 | low);
      float value;
      std::memcpy(&value, &bits, 4);
      const uint8_t got = to_e4m3(value),
                    want = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
      if (std::isnan(value)) {
        ASSERT_EQ(got & 0x7f, 0x7f) << std::hex << bits;
      } else {
        ASSERT_EQ(got, want) << std::hex << bits << " is " << value;
      }
    }
  }
}

TEST(E4m3, CodesComeBack) {
  for (int code = 0; code < 256; code++) {
    const float value = from_e4m3(static_cast<uint8_t>(code));
    __nv_fp8_e4m3 theirs;
    theirs.__x = static_cast<uint8_t>(code);
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value));
    } else {
      EXPECT_EQ(value, static_cast<float>(theirs)) << code;
      EXPECT_EQ(to_e4m3(value), code);
    }
  }
}

// Every BF16 as the largest of a tile, infinity too, with magnitudes around every code's borders.
TEST(Divide, GivesTheCodesOfADivision) {
  std::mt19937 engine(1);
  for (uint16_t bits = 0; bits <= 0x7f80; bits++) {
    const float max = bf16_bits_to_float(bits), scale = fp8_scale(max);
    const Divide divide(scale);
    for (int i = 0; i < 200; i++) {
      const auto x_bits = static_cast<uint16_t>(bits - std::min<uint32_t>(bits, engine() % 2400));
      const float x = (engine() % 2 == 0 ? 1.0f : -1.0f) * bf16_bits_to_float(x_bits);
      ASSERT_EQ(to_e4m3(divide(x)), to_e4m3(x / scale)) << x << " / " << scale;
    }
  }
}

class QuantizeFiber : public ::testing::TestWithParam<QuantizeSize> {};

dim3 grid_of(const QuantizeSize& size) {
  return {static_cast<unsigned>(ceil_div(size.cols, kTile)),
          static_cast<unsigned>(ceil_div(size.rows, kTile))};
}

TEST_P(QuantizeFiber, RowsEqualReference) {
  const auto [rows, cols] = GetParam();
  const std::vector<uint16_t> x = matrix_to_quantize(rows, cols, 1);
  Quantized got(rows, cols, ScaleLayout::rows_1x128);
  const QuantizeRows call{x.data(),
                          rows,
                          cols,
                          got.q.data(),
                          got.scales.data(),
                          got.transposed.data(),
                          got.transposed_scales.data()};
  fiber::run({grid_of(GetParam()), kQuantizeThreads}, 1, [&] { quantize_rows_kernel(call); });
  EXPECT_TRUE(got == quantized_rows(x, rows, cols));
}

TEST_P(QuantizeFiber, RowsLeaveOutWhatIsNotAsked) {
  const auto [rows, cols] = GetParam();
  const std::vector<uint16_t> x = matrix_to_quantize(rows, cols, 2);
  Quantized got(rows, cols, ScaleLayout::rows_1x128), want = quantized_rows(x, rows, cols);
  fiber::run({grid_of(GetParam()), kQuantizeThreads}, 2, [&] {
    quantize_rows_kernel({x.data(), rows, cols, nullptr, nullptr, got.transposed.data(),
                          got.transposed_scales.data()});
  });
  EXPECT_TRUE(got.transposed == want.transposed && got.transposed_scales == want.transposed_scales);
  fiber::run({grid_of(GetParam()), kQuantizeThreads}, 3, [&] {
    quantize_rows_kernel({x.data(), rows, cols, got.q.data(), got.scales.data(), nullptr, nullptr});
  });
  EXPECT_TRUE(got == want);
}

TEST_P(QuantizeFiber, BlocksEqualReference) {
  const auto [rows, cols] = GetParam();
  const std::vector<uint16_t> x = matrix_to_quantize(rows, cols, 3);
  for (unsigned seed : {1u, 2u}) {
    Quantized got(rows, cols, ScaleLayout::blocks_128x128);
    const QuantizeBlocks call{x.data(),
                              rows,
                              cols,
                              got.q.data(),
                              got.scales.data(),
                              got.transposed.data(),
                              got.transposed_scales.data()};
    fiber::run({grid_of(GetParam()), kQuantizeThreads}, seed,
               [&] { quantize_blocks_kernel(call); });
    EXPECT_TRUE(got == quantized_blocks(x, rows, cols));
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, QuantizeFiber, ::testing::ValuesIn(kQuantizeSizes),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.cols);
                         });

TEST(Fiber, SeesABarrierThatNotAllReach) {
  EXPECT_THROW(fiber::run({1, 64}, 1,
                          [] {
                            if (threadIdx.x < 40) __syncthreads();
                          }),
               std::logic_error);
}

}  // namespace
}  // namespace strait::cuda
