// Linear layers in FP8 as the tape records them, against the same ops called by hand; and what the
// tape keeps.
#include <cmath>

#include "core/autograd/functions.h"
#include "core/ops/elementwise.h"
#include "core/ops/swiglu.h"
#include "op_test.h"

namespace strait {
namespace {

using test::expect_same_bits;
using test::random_numbers;
using test::read;
using test::tensor_of;

constexpr int64_t kRows = 150, kIn = 200, kOut = 72;

struct Fixture {
  explicit Fixture(Shape weight_shape) {
    weight.shape = weight_shape;
    weight.dtype = DType::bf16, weight.operands = DType::e4m3;
    weight.weight = numbers(weight_shape, DType::bf16, 1);
    weight.gradient = numbers(weight_shape, DType::f32, 2);
    weight.packed.pack(ctx, weight.weight, DType::e4m3);
  }
  Tensor numbers(Shape shape, DType dtype, uint32_t seed) {
    return tensor_of(ctx, shape, dtype, random_numbers(shape.numel(), seed, 1, dtype));
  }
  int64_t kept() {
    int64_t bytes = 0;
    for (Purpose purpose : {Purpose::activations, Purpose::routed, Purpose::workspace})
      bytes += ctx.memory().live().bytes[static_cast<size_t>(purpose)];
    return bytes;
  }
  Context ctx{Device::cpu, 2};
  Parameter weight;
};

// What the products of one layer give for x and dy.
struct Products {
  Tensor y, dx, dw;
};
Products products(Fixture& f, const Tensor& x, const Fp8Matrix& x_columns, const Tensor& dy,
                  const std::vector<int64_t>& offsets, DType out) {
  Context& ctx = f.ctx;
  Products p{ctx.empty({x.rows(), kOut}, out, Purpose::activations),
             ctx.empty({x.rows(), kIn}, DType::f32, Purpose::activations),
             f.numbers(f.weight.shape, DType::f32, 2)};
  const Fp8Matrix x_rows = fp8_rows_of(ctx, x, kActivationScales, Purpose::activations);
  const Fp8Matrix dy_rows = fp8_rows_of(ctx, dy, kGradientScales, Purpose::activations);
  const Fp8Matrix dy_columns =
      fp8_columns_of(ctx, dy, offsets, kGradientScales, Purpose::activations);
  const PackedWeight& packed = f.weight.packed;
  if (f.weight.shape.rank() == 2) {
    linear(ctx, x_rows, packed, p.y);
    linear_input_gradient(ctx, dy_rows, packed, p.dx);
    linear_weight_gradient(ctx, dy_columns, x_columns, p.dw, Accumulate::yes);
  } else {
    grouped_linear(ctx, x_rows, offsets, packed, p.y);
    grouped_linear_input_gradient(ctx, dy_rows, offsets, packed, p.dx);
    grouped_linear_weight_gradient(ctx, dy_columns, x_columns, offsets, p.dw, Accumulate::yes);
  }
  return p;
}

Fp8Matrix requantised(Context& ctx, const Tensor& x, const std::vector<int64_t>& offsets) {
  const Fp8Matrix rows = fp8_rows_of(ctx, x, kActivationScales, Purpose::activations);
  Fp8Matrix columns = empty_fp8_columns(
      ctx, x.rows(), x.cols(), static_cast<int64_t>(offsets.size()) - 1, Purpose::activations);
  requantize_columns(ctx, rows, offsets, kActivationScales, columns);
  return columns;
}

// What tiles of 128 x 1 along each group's rows stand for.
void dequantize_columns(const Fp8Matrix& q, const std::vector<int64_t>& offsets, Tensor& x) {
  const int64_t cols = x.cols(), stride = scale_stride(q.layout, x.rows(), cols);
  int64_t tile = 0;
  for (size_t g = 1; g < offsets.size(); ++g)
    for (int64_t row = offsets[g - 1]; row < offsets[g]; row += kScaleBlock, ++tile)
      for (int64_t r = row; r < std::min<int64_t>(row + kScaleBlock, offsets[g]); ++r)
        for (int64_t c = 0; c < cols; ++c)
          x.data<float>()[r * cols + c] = E4m3::decode(q.codes_RC.data<uint8_t>()[r * cols + c]) *
                                          q.scales.data<float>()[tile * stride + c];
}

enum class X { kept, recomputed };

void check_linear(X how, const std::vector<int64_t>& offsets) {
  const bool grouped = offsets.size() > 2;
  Fixture f(grouped ? Shape{static_cast<int64_t>(offsets.size()) - 1, kOut, kIn}
                    : Shape{kOut, kIn});
  const Tensor numbers = f.numbers({kRows, kIn}, DType::bf16, 3);
  Segment segment(f.ctx, Mode::training);
  const Var input = segment.input(numbers);
  Var x = segment.result(numbers, DType::f32);
  if (how == X::recomputed) segment.may_recompute(x, true, [&] { return numbers; });
  const Var y =
      grouped ? grouped_linear(segment, x, f.weight,
                               std::make_shared<const std::vector<int64_t>>(offsets), DType::bf16)
              : linear(segment, x, f.weight, DType::bf16);
  segment.finish_forward();
  const Tensor dy = f.numbers({kRows, kOut}, DType::bf16, 4);
  const auto columns = how == X::kept ? requantised(f.ctx, numbers, offsets)
                                      : fp8_columns_of(f.ctx, numbers, offsets, kActivationScales,
                                                       Purpose::activations);
  const Products expected = products(f, numbers, columns, dy, offsets, DType::bf16);
  expect_same_bits(read(y.get()), read(expected.y), "y");
  segment.backward({{y, f.numbers({kRows, kOut}, DType::bf16, 4)}});
  expect_same_bits(read(x.gradient->take()), read(expected.dx), "dx");
  segment.weight_gradients();
  expect_same_bits(read(f.weight.gradient), read(expected.dw), "dw");
}

TEST(FunctionsFp8, LinearQuantisesWhatBackwardHasOfX) {
  check_linear(X::kept, {0, kRows});
  check_linear(X::recomputed, {0, kRows});
}

// Gradients in blocks: dx and dW of the numbers that blocks of each expert's own rows stand for.
TEST(FunctionsFp8, GradientsInBlocks) {
  const std::vector<int64_t> offsets = {0, 0, 20, 20, 149, kRows};
  const auto groups = static_cast<int64_t>(offsets.size()) - 1;
  Fixture f({groups, kOut, kIn});
  f.weight.gradient_blocks = true;
  const Tensor numbers = f.numbers({kRows, kIn}, DType::bf16, 3);
  const Tensor dy = f.numbers({kRows, kOut}, DType::bf16, 4);
  std::vector<double> meant;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = offsets[static_cast<size_t>(g)];
    const int64_t rows = offsets[static_cast<size_t>(g) + 1] - first;
    Fp8Matrix q = empty_fp8(f.ctx, rows, kOut, ScaleLayout::blocks_128x128, Purpose::workspace);
    Tensor part = f.ctx.empty({rows, kOut}, DType::f32, Purpose::workspace);
    quantize_blocks(f.ctx, dy.slice_rows(first, rows), kGradientScales, q);
    dequantize(f.ctx, q, part);
    for (const double number : read(part)) meant.push_back(number);
  }
  const Fp8Blocks blocks = fp8_blocks_of(f.ctx, dy, offsets, kGradientScales, Purpose::workspace);
  Tensor back = f.ctx.empty(dy.shape(), DType::f32, Purpose::workspace);
  dequantize(f.ctx, blocks.rows, back);
  expect_same_bits(read(back), meant, "rows");

  const Tensor dx = f.ctx.empty({kRows, kIn}, DType::f32, Purpose::activations);
  grouped_linear_input_gradient(f.ctx, blocks.rows, offsets, f.weight.packed, dx);
  const Tensor dw = f.numbers(f.weight.shape, DType::f32, 2);
  grouped_linear_weight_gradient(f.ctx, blocks.columns, requantised(f.ctx, numbers, offsets),
                                 offsets, dw, Accumulate::yes);
  Segment segment(f.ctx, Mode::training);
  Var x = segment.result(numbers, DType::f32);
  const Var y = grouped_linear(segment, x, f.weight,
                               std::make_shared<const std::vector<int64_t>>(offsets), DType::bf16);
  segment.finish_forward();
  segment.backward({{y, f.numbers({kRows, kOut}, DType::bf16, 4)}});
  expect_same_bits(read(x.gradient->take()), read(dx), "dx");
  segment.weight_gradients();
  expect_same_bits(read(f.weight.gradient), read(dw), "dw");

  // dW is that of `meant` in one scale for a column: the same numbers, to FP32's rounding.
  Tensor wide = tensor_of(f.ctx, dy.shape(), DType::f32, meant);
  const Tensor plain = f.numbers(f.weight.shape, DType::f32, 2);
  Tensor x_meant = f.ctx.empty({kRows, kIn}, DType::f32, Purpose::workspace);
  dequantize_columns(requantised(f.ctx, numbers, offsets), offsets, x_meant);
  grouped_linear_weight_gradient(f.ctx, wide, x_meant, offsets, plain, Accumulate::yes);
  const std::vector<double> a = read(dw), b = read(plain);
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4 * (1 + std::abs(b[i])));
}

TEST(FunctionsFp8, TilesDoNotStraddleExperts) {
  check_linear(X::kept, {0, 0, 70, 70, 133, kRows});
  check_linear(X::recomputed, {0, 0, 70, 70, 133, kRows});
}

TEST(FunctionsFp8, LinearAddAddsToTheResidualInFp32) {
  Fixture f({kOut, kIn});
  const Tensor numbers = f.numbers({kRows, kIn}, DType::bf16, 3);
  const Tensor residual = f.numbers({kRows, kOut}, DType::f32, 5);
  const Tensor dy = f.numbers({kRows, kOut}, DType::f32, 4);
  Segment segment(f.ctx, Mode::training);
  const Var x = segment.input(numbers), before = segment.input(residual);
  const Var y = linear_add(segment, x, f.weight, before);
  Tensor expected = f.numbers({kRows, kOut}, DType::f32, 5);
  linear(f.ctx, fp8_rows_of(f.ctx, numbers, kActivationScales, Purpose::activations),
         f.weight.packed, expected, Accumulate::yes);
  expect_same_bits(read(y.get()), read(expected), "y");
  segment.backward({{y, f.numbers({kRows, kOut}, DType::f32, 4)}});
  expect_same_bits(read(before.gradient->take()), read(dy), "the residual's gradient");
  EXPECT_TRUE(x.gradient->defined());
}

// Of x its codes and scales are all that is kept, and then the pair of tiles of 128 x 1.
TEST(FunctionsFp8, KeepsCodesOnly) {
  Fixture f({kOut, kIn});
  const int64_t before = f.kept();
  Segment segment(f.ctx, Mode::training);
  Var y;
  {
    const Var x = segment.result(f.numbers({kRows, kIn}, DType::bf16, 3), DType::f32);
    y = linear(segment, x, f.weight, DType::bf16);
    y.value->set_recipe([] { return Tensor(); });
    y.value->drop();
    segment.finish_forward();
  }
  const auto block = [](int64_t bytes) { return round_up(bytes, 64); };  // as Memory hands out
  EXPECT_EQ(f.kept() - before,
            block(kRows * kIn) + block(ceil_div(kIn, 128) * round_up(kRows, 4) * 4));
  segment.backward({{y, f.numbers({kRows, kOut}, DType::bf16, 4)}});
  const int64_t tiles = kRows / 128 + 1;
  EXPECT_EQ(f.kept() - before, block(kRows * kIn) + block(kRows * kOut) + block(tiles * kIn * 4) +
                                   block(tiles * kOut * 4));
  segment.weight_gradients();
  EXPECT_EQ(f.kept(), before);
}

// Two products that read one value share its codes, in forward and as tiles of 128 x 1.
TEST(FunctionsFp8, ProductsShareTheCodesOfWhatTheyRead) {
  Fixture f({kOut, kIn});
  Value value(f.numbers({kRows, kIn}, DType::bf16, 3));
  const auto rows = value.fp8_rows(f.ctx, Purpose::activations);
  EXPECT_EQ(value.fp8_rows(f.ctx, Purpose::activations), rows);
  const std::vector<int64_t> offsets{0, kRows};
  const auto columns = value.fp8_columns(f.ctx, offsets, Purpose::activations);
  EXPECT_EQ(value.fp8_columns(f.ctx, offsets, Purpose::activations), columns);
}

// SwiGLU's input in FP8: forward used the numbers themselves, backward what the codes stand for.
TEST(FunctionsFp8, CompactSwigluReadsItsInputFromCodes) {
  for (bool compact : {false, true}) {
    Fixture f({kOut, kIn});
    const Tensor numbers = f.numbers({kRows, kIn}, DType::bf16, 3);
    const Tensor d_h = f.numbers({kRows, kIn / 2}, DType::bf16, 4);
    Segment segment(f.ctx, Mode::training, {.compact = compact});
    const Var gate_up = segment.result(f.numbers({kRows, kIn}, DType::bf16, 3), DType::f32);
    const Var h = swiglu(segment, gate_up, nullptr);
    Tensor expected = f.ctx.empty({kRows, kIn / 2}, DType::bf16, Purpose::activations);
    swiglu(f.ctx, numbers, Tensor{}, expected);
    expect_same_bits(read(h.get()), read(expected), "h");
    segment.finish_forward();

    Tensor kept = numbers;
    if (compact) {
      kept = f.ctx.empty({kRows, kIn}, DType::bf16, Purpose::activations);
      dequantize(f.ctx, fp8_rows_of(f.ctx, numbers, kActivationScales, Purpose::activations), kept);
    }
    expect_same_bits(read(gate_up.get()), read(kept), "what backward reads");
    Tensor d_input = f.ctx.empty({kRows, kIn}, DType::bf16, Purpose::activations), none;
    swiglu_backward(f.ctx, d_h, kept, Tensor{}, d_input, none);
    segment.backward({{h, f.numbers({kRows, kIn / 2}, DType::bf16, 4)}});
    expect_same_bits(read(gate_up.gradient->take()), read(d_input), "its gradient");
  }
}

void expect_same_codes(const Fp8Matrix& got, const Fp8Matrix& expected, const char* what) {
  const int64_t rows = expected.codes_RC.rows(), cols = expected.codes_RC.cols();
  ASSERT_EQ(got.codes_RC.rows(), rows) << what;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const auto at = static_cast<size_t>(scale_index(expected.layout, rows, cols, r, c));
      ASSERT_EQ(got.codes_RC.data<uint8_t>()[r * cols + c],
                expected.codes_RC.data<uint8_t>()[r * cols + c])
          << what << " at " << r << ", " << c;
      ASSERT_EQ(got.scales.data<float>()[at], expected.scales.data<float>()[at]) << what;
    }
}

// Codes made with the rows are those of the rows.
TEST(FunctionsFp8, ProducersQuantiseWhatTheyMake) {
  Fixture f({kOut, kIn});
  Context& ctx = f.ctx;
  const Tensor x = f.numbers({kRows, kIn}, DType::f32, 3);
  const Tensor weights = f.numbers({kRows}, DType::f32, 5);
  Parameter norm;
  norm.shape = {kIn}, norm.role = Role::norm, norm.weight = f.numbers({kIn}, DType::f32, 6);
  norm.gradient = f.numbers({kIn}, DType::f32, 7);
  for (const Mode mode : {Mode::training, Mode::inference}) {
    Segment segment(ctx, mode, {.norms = false, .swiglu = false});
    const Var input = segment.input(x), row_weights = segment.input(weights);
    const auto rows_of = [&](const Var& var) {
      return *var.value->fp8_rows(ctx, Purpose::activations);
    };
    const Var y = rms_norm(segment, input, norm, 1e-6, DType::bf16, ReadBy::fp8_products);
    expect_same_codes(rows_of(y), rows_of(rms_norm(segment, input, norm, 1e-6, DType::bf16)),
                      "norm");
    const Var gate_up = segment.result(f.numbers({kRows, kIn}, DType::bf16, 4), DType::bf16);
    for (const Var* of_rows : {static_cast<const Var*>(nullptr), &row_weights})
      expect_same_codes(rows_of(swiglu(segment, gate_up, of_rows, ReadBy::fp8_products)),
                        rows_of(swiglu(segment, gate_up, of_rows)), "swiglu");
  }
}

TEST(FunctionsFp8, CopiesOfCodesAreCodesOfCopies) {
  Fixture f({kOut, kIn});
  Context& ctx = f.ctx;
  const Tensor x = f.numbers({kRows, kIn}, DType::bf16, 3);
  const Fp8Matrix codes = fp8_rows_of(ctx, x, kActivationScales, Purpose::activations);
  const test::Numbers numbers{149, 0, 0, 77, 3, 148};
  const auto count = static_cast<int64_t>(numbers.size());
  const Tensor index = tensor_of(ctx, {count}, DType::i32, numbers);
  Tensor copies = ctx.empty({count, kIn}, DType::bf16, Purpose::activations);
  gather_rows(ctx, x, index, copies);
  const Fp8Matrix expected = fp8_rows_of(ctx, copies, kActivationScales, Purpose::activations);
  Fp8Matrix gathered = empty_fp8(ctx, count, kIn, ScaleLayout::rows_1x128, Purpose::activations);
  gather_rows(ctx, codes, index, gathered);
  expect_same_codes(gathered, expected, "gathered");

  Tensor wire = ctx.empty({count, fp8_wire_words(kIn)}, DType::f32, Purpose::communication);
  pack_fp8_wire(ctx, codes, index, wire);
  Fp8Matrix unpacked = empty_fp8(ctx, count, kIn, ScaleLayout::rows_1x128, Purpose::activations);
  unpack_fp8_wire(ctx, wire, unpacked);
  expect_same_codes(unpacked, expected, "over a wire");
  Tensor decoded = ctx.empty({count, kIn}, DType::bf16, Purpose::activations);
  Tensor wanted = ctx.empty({count, kIn}, DType::bf16, Purpose::activations);
  unpack_fp8_wire(ctx, wire, decoded);
  dequantize(ctx, expected, wanted);
  expect_same_bits(read(decoded), read(wanted), "decoded");
}

TEST(FunctionsFp8, CompactKeepsE5m6) {
  Fixture f({kOut, kIn});
  const Tensor numbers = f.numbers({kRows, kIn}, DType::bf16, 3);
  Segment segment(f.ctx, Mode::training, {.compact = true});
  const Var o = segment.result(f.numbers({kRows, kIn}, DType::bf16, 3), DType::bf16);
  keep_compact(segment, o, Kept::e5m6, Purpose::activations);
  expect_same_bits(read(o.get()), read(numbers), "in forward");
  segment.finish_forward();
  E5m6Matrix codes = empty_e5m6(f.ctx, kRows, kIn, Purpose::activations);
  quantize_e5m6(f.ctx, numbers, codes);
  Tensor expected = f.ctx.empty({kRows, kIn}, DType::bf16, Purpose::activations);
  dequantize_e5m6(f.ctx, codes, expected);
  expect_same_bits(read(o.get()), read(expected), "in backward");
}

TEST(FunctionsFp8, WhatIsNotFiniteIsNamed) {
  Fixture f({kOut, kIn});
  f.weight.name = "model.layers.1.mlp.down_proj";
  const auto numbers = [&](int64_t cols, double last) {
    test::Numbers values = random_numbers(kRows * cols, 3, 1, DType::bf16);
    values.back() = last;
    return tensor_of(f.ctx, {kRows, cols}, DType::bf16, values);
  };
  const auto failure = [&](double last_x, double last_dy) -> std::string {
    Segment segment(f.ctx, Mode::training);
    const Var x = segment.input(numbers(kIn, last_x));
    try {
      const Var y = linear(segment, x, f.weight, DType::bf16);
      segment.finish_forward();
      segment.backward({{y, numbers(kOut, last_dy)}});
    } catch (const NotFiniteError& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_EQ(failure(1, 1), "none");
  EXPECT_EQ(failure(NAN, 1),
            "the input of model.layers.1.mlp.down_proj has numbers that are not finite");
  EXPECT_EQ(failure(1, INFINITY),
            "the gradient of the output of model.layers.1.mlp.down_proj has numbers that are not "
            "finite");
  EXPECT_EQ(failure(1, 1), "none") << "one that was told is forgotten";

  for (Kept format : {Kept::fp8, Kept::e5m6}) {
    Segment segment(f.ctx, Mode::training, {.compact = true}, "model.layers.1.self_attn");
    const auto keep = [&](double last) {
      keep_compact(segment, segment.result(numbers(kIn, last), DType::bf16), format,
                   Purpose::activations);
    };
    EXPECT_NO_THROW(keep(3e38));
    for (const double last : {double(NAN), double(-INFINITY)}) {
      try {
        keep(last);
        ADD_FAILURE() << last;
      } catch (const NotFiniteError& error) {
        EXPECT_STREQ(error.what(),
                     "what waits for the backward pass of model.layers.1.self_attn has numbers "
                     "that are not finite");
      }
    }
  }
}

}  // namespace
}  // namespace strait
