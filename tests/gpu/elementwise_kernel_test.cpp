// Casts, sums, SwiGLU, RMSNorm, RoPE and AdamW as kernels.
#include "core/ops/adamw.h"
#include "core/ops/cuda/adamw.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/rms_norm.h"
#include "core/ops/cuda/rope.h"
#include "core/ops/cuda/swiglu.h"
#include "core/ops/elementwise.h"
#include "core/ops/quantize.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rope.h"
#include "core/ops/swiglu.h"
#include "tests/gpu/kernel_test.h"

namespace strait::cuda {
namespace {

struct Case {
  int64_t rows, cols, gap;  // gap: columns of the matrix around, so that rows are not aligned
};
constexpr Case kCases[] = {{1, 1, 0},   {3, 17, 0},   {5, 64, 0},  {4, 100, 3},
                           {2, 200, 8}, {70, 136, 0}, {3, 576, 0}, {2, 2056, 16}};
constexpr DType kTypes[] = {DType::f32, DType::bf16};

class Plain : public KernelTest, public ::testing::WithParamInterface<Case> {
 protected:
  Twin random(int64_t rows, int64_t cols, DType dtype, uint32_t seed, double scale = 1) {
    return Twin(ctx_, rows, cols, dtype, seed, GetParam().gap, scale);
  }
  int64_t rows() const { return GetParam().rows; }
  int64_t cols() const { return GetParam().cols; }
};
INSTANTIATE_TEST_SUITE_P(Sizes, Plain, ::testing::ValuesIn(kCases), [](const auto& info) {
  return std::to_string(info.param.rows) + "x" + std::to_string(info.param.cols) + "gap" +
         std::to_string(info.param.gap);
});

// Numbers that conversions treat in their own ways.
void put_odd_numbers(Twin& twin) {
  const double odd[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-40, -3e-39, 3.3961776e38};
  test::Numbers numbers = test::read(twin.tensor);
  for (size_t i = 0; i < std::min(numbers.size(), std::size(odd)); i++) numbers[i] = odd[i];
  test::write(twin.tensor, numbers);
  twin.update();
}

TEST_P(Plain, CastAddAndFill) {
  for (DType from : kTypes) {
    for (DType to : kTypes) {
      Twin x = random(rows(), cols(), from, 1), y = random(rows(), cols(), to, 2);
      put_odd_numbers(x);
      strait::add(ctx_, x.tensor, y.tensor);
      add({x.rows(), y.rows(), rows(), cols()}, nullptr);
      y.expect_same("add");
      strait::cast(ctx_, x.tensor, y.tensor);
      cast({x.rows(), y.rows(), rows(), cols()}, nullptr);
      y.expect_same("cast");
      strait::fill(ctx_, 1.0 / 3, y.tensor);
      fill({y.rows(), rows(), cols(), static_cast<float>(1.0 / 3)}, nullptr);
      y.expect_same("fill");
    }
  }
}

TEST_F(KernelTest, SumOfSquares) {
  for (int64_t numel : {0, 1, 100, 4096, 4097, 50001}) {
    for (DType type : kTypes) {
      const Twin x(ctx_, 1, numel, type, 3);
      const Buffer partial(sums_of_squares(numel) * 8 + 8), sum = upload(std::vector<double>{7});
      sum_of_squares({x.rows(), numel, partial.as<double>(), sum.as<double>()}, nullptr);
      EXPECT_EQ(download<double>(sum)[0], strait::sum_of_squares(ctx_, x.tensor)) << numel;
    }
  }
}

// What quantize_rows makes of a matrix, and where a kernel puts the same.
class Fp8Twin {
 public:
  Fp8Twin(Context& ctx, const Tensor& x, const QuantizeSettings& settings)
      : want_(empty_fp8(ctx, x.rows(), x.cols(), ScaleLayout::rows_1x128, Purpose::activations)),
        settings_(settings) {
    std::memset(want_.codes_RC.raw(), 0xee, static_cast<size_t>(want_.codes_RC.bytes()));
    std::memset(want_.scales.raw(), 0xee, static_cast<size_t>(want_.scales.bytes()));
    codes_ = upload(bytes(want_.codes_RC));
    scales_ = upload(bytes(want_.scales));
    quantize_rows(ctx, x, settings, want_);
  }
  Fp8Rows rows() const {
    return {codes_.as<uint8_t>(), scales_.as<float>(), settings_.least_max, settings_.power_of_two};
  }
  void expect_same() const {
    cuda::expect_same(download<uint8_t>(codes_), bytes(want_.codes_RC), "codes");
    cuda::expect_same(download<uint8_t>(scales_), bytes(want_.scales), "scales");
  }

 private:
  static std::vector<uint8_t> bytes(const Tensor& tensor) {
    const auto* begin = reinterpret_cast<const uint8_t*>(tensor.raw());
    return {begin, begin + tensor.bytes()};
  }
  Fp8Matrix want_;
  QuantizeSettings settings_;
  Buffer codes_, scales_;
};
constexpr QuantizeSettings kQuantizeSettings[] = {{}, {1e-4f, true}};

TEST_P(Plain, Swiglu) {
  for (DType in : kTypes) {
    for (DType out : kTypes) {
      Twin x = random(rows(), 2 * cols(), in, 1, 4), h = random(rows(), cols(), out, 2);
      const Twin weight(ctx_, 1, rows(), DType::f32, 3);
      put_odd_numbers(x);
      strait::swiglu(ctx_, x.tensor, weight.tensor.view({rows()}), h.tensor);
      swiglu({x.rows(), weight.data<float>(), h.rows(), rows(), cols(), {}}, nullptr);
      h.expect_same("weighted");
      strait::swiglu(ctx_, x.tensor, Tensor(), h.tensor);
      swiglu({x.rows(), nullptr, h.rows(), rows(), cols(), {}}, nullptr);
      h.expect_same("plain");
      if (out != DType::bf16) continue;
      for (const QuantizeSettings& settings : kQuantizeSettings) {
        const Fp8Twin q(ctx_, h.tensor, settings);
        const Rows unstored{nullptr, 0, true};
        swiglu({x.rows(), nullptr, unstored, rows(), cols(), q.rows()}, nullptr);
        q.expect_same();
      }
    }
  }
}

TEST_P(Plain, SwigluBackward) {
  for (DType in : kTypes) {
    for (DType out : kTypes) {
      Twin x = random(rows(), 2 * cols(), in, 1, 4), dh = random(rows(), cols(), out, 2);
      Twin dx = random(rows(), 2 * cols(), out, 3), d_weight(ctx_, 1, rows(), DType::f32, 4);
      const Twin weight(ctx_, 1, rows(), DType::f32, 5);
      Tensor d_weight_T = d_weight.tensor.view({rows()}), none;
      strait::swiglu_backward(ctx_, dh.tensor, x.tensor, weight.tensor.view({rows()}), dx.tensor,
                              d_weight_T);
      swiglu_backward({dh.rows(), x.rows(), dx.rows(), weight.data<float>(), d_weight.data<float>(),
                       rows(), cols()},
                      nullptr);
      dx.expect_same("d_gate_up");
      d_weight.expect_same("d_weight");
      strait::swiglu_backward(ctx_, dh.tensor, x.tensor, Tensor(), x.tensor, none);
      swiglu_backward({dh.rows(), x.rows(), x.rows(), nullptr, nullptr, rows(), cols()}, nullptr);
      x.expect_same("in place");
    }
  }
}

TEST_P(Plain, RmsNorm) {
  const Twin weight(ctx_, 1, cols(), DType::f32, 3);
  for (DType in : kTypes) {
    for (DType out : kTypes) {
      Twin x = random(rows(), cols(), in, 1), y = random(rows(), cols(), out, 2);
      strait::rms_norm(ctx_, x.tensor, weight.tensor.view({cols()}), 1e-6, y.tensor);
      rms_norm({x.rows(), weight.data<float>(), 1e-6f, y.rows(), rows(), cols(), {}}, nullptr);
      y.expect_same("y");
      if (out != DType::bf16) continue;
      for (const QuantizeSettings& settings : kQuantizeSettings) {
        const Fp8Twin q(ctx_, y.tensor, settings);
        rms_norm({x.rows(), weight.data<float>(), 1e-6f, y.rows(), rows(), cols(), q.rows()},
                 nullptr);
        q.expect_same();
        y.expect_same("y");
      }
    }
  }
}

TEST_P(Plain, RmsNormBackward) {
  const Twin weight(ctx_, 1, cols(), DType::f32, 3);
  const Tensor weight_H = weight.tensor.view({cols()});
  for (DType in : kTypes) {
    for (DType out : kTypes) {
      const Twin x = random(rows(), cols(), in, 1);
      Twin dy = random(rows(), cols(), out, 2), dx = random(rows(), cols(), out, 4);
      Twin d_weight(ctx_, 1, cols(), DType::f32, 5);
      const Buffer inverse(rows() * 4), partial((rows() + 31) / 32 * cols() * 4);
      RmsNormBackward call{dy.rows(),
                           x.rows(),
                           dx.rows(),
                           weight.data<float>(),
                           1e-6f,
                           true,
                           rows(),
                           cols(),
                           d_weight.data<float>(),
                           inverse.as<float>(),
                           partial.as<float>()};
      Tensor d_weight_H = d_weight.tensor.view({cols()}), none;
      strait::rms_norm_backward(ctx_, dy.tensor, x.tensor, weight_H, 1e-6, Accumulate::yes,
                                dx.tensor, d_weight_H);
      rms_norm_backward(call, nullptr);
      dx.expect_same("dx");
      d_weight.expect_same("d_weight");
      strait::rms_norm_backward(ctx_, dy.tensor, x.tensor, weight_H, 1e-6, Accumulate::no, none,
                                d_weight_H);
      call.dx = {};
      rms_norm_backward(call, nullptr);
      d_weight.expect_same("d_weight alone");
      strait::rms_norm_backward(ctx_, dy.tensor, x.tensor, weight_H, 1e-6, Accumulate::no,
                                dy.tensor, d_weight_H);
      call.dx = call.dy;
      call.accumulate = false;
      rms_norm_backward(call, nullptr);
      dy.expect_same("dx in place of dy");
      d_weight.expect_same("d_weight of a dy that is overwritten");
    }
  }
}

// The tree over more chunks of rows than a few.
TEST_F(KernelTest, RmsNormWeightGradientOfManyRows) {
  for (int64_t rows : {32 * 11, 32 * 16 + 1, 32 * 37 - 3}) {
    const Twin x(ctx_, rows, 6, DType::bf16, 1), dy(ctx_, rows, 6, DType::bf16, 2),
        weight(ctx_, 1, 6, DType::f32, 3);
    Twin d_weight(ctx_, 1, 6, DType::f32, 4);
    Tensor d_weight_H = d_weight.tensor.view({6}), none;
    const Buffer inverse(rows * 4), partial((rows + 31) / 32 * 6 * 4);
    strait::rms_norm_backward(ctx_, dy.tensor, x.tensor, weight.tensor.view({6}), 1e-6,
                              Accumulate::no, none, d_weight_H);
    rms_norm_backward({dy.rows(),
                       x.rows(),
                       {},
                       weight.data<float>(),
                       1e-6f,
                       false,
                       rows,
                       6,
                       d_weight.data<float>(),
                       inverse.as<float>(),
                       partial.as<float>()},
                      nullptr);
    d_weight.expect_same("d_weight");
  }
}

TEST_F(KernelTest, Rope) {
  for (int64_t dim : {2, 6, 8, 64}) {
    const RopeTable table = make_rope_table(ctx_, {.rope_dim = dim, .max_positions = 40});
    const Twin table_twin(ctx_, 40, dim, DType::f32, test::read(table.cos_sin));
    for (DType type : kTypes) {
      for (int64_t offset : {0, 3, 16}) {
        const RopeLayout layout{.num_heads = 3,
                                .head_stride = offset + dim + 8,
                                .offset = offset,
                                .sequence_length = 7,
                                .start_position = 5};
        Twin x(ctx_, 14, 3 * layout.head_stride, type, 1, offset);
        for (bool inverse : {false, true}) {
          strait::rope(ctx_, x.tensor, layout, table,
                       inverse ? RopeDirection::inverse : RopeDirection::forward);
          rope({x.rows(), 14, layout.num_heads, layout.head_stride, offset, layout.sequence_length,
                layout.start_position, table_twin.data<float>(), dim, inverse},
               nullptr);
          x.expect_same("rotated");
        }
      }
    }
  }
}

TEST_F(KernelTest, AdamW) {
  for (int64_t numel : {1, 8, 2500}) {
    for (DType m_type : kTypes) {
      for (DType v_type : kTypes) {
        const Twin gradient(ctx_, 1, numel, DType::f32, 1);
        Twin master(ctx_, 1, numel, DType::f32, 2), m(ctx_, 1, numel, m_type, 3),
            v(ctx_, 1, numel, v_type, test::Numbers(static_cast<size_t>(numel), 0.25));
        Twin copy_f32(ctx_, 1, numel, DType::f32, 4), copy_bf16(ctx_, 1, numel, DType::bf16, 5);
        AdamWStep step{
            .lr = 1e-3, .bias_correction1 = 0.5, .bias_correction2 = 0.3, .gradient_scale = 0.7};
        AdamWTensors tensors{gradient.tensor, master.tensor,   m.tensor,
                             v.tensor,        copy_f32.tensor, copy_bf16.tensor};
        strait::adamw(ctx_, step, tensors);
        adamw({adamw_factors(step), gradient.data<float>(), master.data<float>(), m.rows(),
               v.rows(), copy_f32.data<float>(), copy_bf16.data<void>(), numel},
              nullptr);
        for (const Twin* twin : {&master, &m, &v, &copy_f32, &copy_bf16}) twin->expect_same("step");
      }
    }
  }
}

}  // namespace
}  // namespace strait::cuda
