#include "core/ops/swiglu.h"

#include "core/ops/math/activation.h"
#include "core/ops/math/scalar.h"
#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

Numbers reference(const Numbers& gate_up, const Numbers& weight, size_t cols) {
  Numbers h(gate_up.size() / 2);
  for (size_t i = 0; i < h.size(); ++i) {
    const size_t r = i / cols, c = i % cols;
    const double gate = gate_up[r * 2 * cols + c], up = gate_up[r * 2 * cols + cols + c];
    h[i] = gate / (1 + std::exp(-gate)) * up * weight[r];
  }
  return h;
}

struct Case {
  int64_t rows, cols;
  DType in, out;
};

class Swiglu : public ::testing::TestWithParam<Case> {};

TEST_P(Swiglu, ForwardMatchesFp64) {
  const auto [rows, cols, in, out] = GetParam();
  Context ctx(Device::cpu, 2);
  const Numbers x = test::random_numbers(rows * 2 * cols, 1, 4, in);
  const Numbers weight = test::random_numbers(rows, 2);
  Tensor h = test::view_of(ctx, rows, cols, out, Numbers(x.size() / 2));
  const Tensor gate_up = test::view_of(ctx, rows, 2 * cols, in, x);
  swiglu(ctx, gate_up, test::tensor_of(ctx, {rows}, DType::f32, weight), h);
  const double tolerance = std::max(1e-6, test::unit(out));
  test::expect_near(test::read(h), reference(x, weight, static_cast<size_t>(cols)), tolerance,
                    "weighted");
  swiglu(ctx, gate_up, Tensor(), h);
  test::expect_near(test::read(h),
                    reference(x, Numbers(weight.size(), 1), static_cast<size_t>(cols)), tolerance,
                    "plain");
}

TEST_P(Swiglu, BackwardMatchesFiniteDifferences) {
  const auto [rows, cols, in, out] = GetParam();
  Context ctx(Device::cpu, 2);
  const Numbers x = test::random_numbers(rows * 2 * cols, 3, 2, in);
  const Numbers weight = test::random_numbers(rows, 4);
  const Numbers dh = test::random_numbers(rows * cols, 5, 1, out);
  const size_t width = static_cast<size_t>(cols);
  const Numbers d_x = test::finite_differences(
      x, [&](const Numbers& v) { return test::dot(reference(v, weight, width), dh); });
  const Numbers d_w = test::finite_differences(
      weight, [&](const Numbers& w) { return test::dot(reference(x, w, width), dh); });
  const Tensor dh_TF = test::view_of(ctx, rows, cols, out, dh);
  const Tensor gate_up = test::view_of(ctx, rows, 2 * cols, in, x);
  const Tensor weight_T = test::tensor_of(ctx, {rows}, DType::f32, weight);
  Tensor d_gate_up = test::view_of(ctx, rows, 2 * cols, in, Numbers(x.size(), 9));
  Tensor d_weight = test::tensor_of(ctx, {rows}, DType::f32, Numbers(weight.size(), 9));
  swiglu_backward(ctx, dh_TF, gate_up, weight_T, d_gate_up, d_weight);
  const double tolerance = std::max(1e-5, test::unit(in));
  test::expect_near(test::read(d_gate_up), d_x, tolerance, "d_gate_up");
  test::expect_near(test::read(d_weight), d_w, 1e-5, "d_weight");
  // In place gives the same bits.
  Tensor in_place = gate_up;
  swiglu_backward(ctx, dh_TF, gate_up, weight_T, in_place, d_weight);
  test::expect_same_bits(test::read(in_place), test::read(d_gate_up), "in place");
}

INSTANTIATE_TEST_SUITE_P(Sizes, Swiglu,
                         ::testing::Values(Case{1, 1, DType::f32, DType::f32},
                                           Case{3, 17, DType::f32, DType::bf16},
                                           Case{4, 48, DType::bf16, DType::bf16},
                                           Case{2, 83, DType::bf16, DType::f32}));

TEST(SwigluOp, FollowsTheScalarDefinition) {
  Context ctx(Device::cpu, 1);
  Numbers x = test::random_numbers(2 * 1000, 6, 20);
  x[0] = 0, x[1] = -0.0, x[2] = 1000, x[3] = -1000, x[4] = -88.5;
  const Numbers dh = test::random_numbers(1000, 7);
  const Tensor gate_up = test::tensor_of(ctx, {1, 2000}, DType::f32, x);
  const Tensor weight = test::tensor_of(ctx, {1}, DType::f32, {0.75});
  Tensor h = ctx.empty({1, 1000}, DType::f32, Purpose::activations);
  Tensor d = ctx.empty({1, 2000}, DType::f32, Purpose::activations);
  Tensor d_weight = ctx.empty({1}, DType::f32, Purpose::activations);
  swiglu(ctx, gate_up, weight, h);
  swiglu_backward(ctx, test::tensor_of(ctx, {1, 1000}, DType::f32, dh), gate_up, weight, d,
                  d_weight);
  Numbers expected_h, expected_gate, expected_up;
  for (size_t i = 0; i < 1000; ++i) {
    const float gate = static_cast<float>(x[i]), up = static_cast<float>(x[1000 + i]);
    expected_h.push_back(swiglu_element<Scalar>(gate, up, 0.75f));
    const auto g = swiglu_gradient<Scalar>(static_cast<float>(dh[i]), gate, up, 0.75f);
    expected_gate.push_back(g.d_gate);
    expected_up.push_back(g.d_up);
  }
  if (cpu::isa() == cpu::Isa::portable) {  // multiplies, then adds: close, not equal
    test::expect_near(test::read(h), expected_h, 1e-6, "h");
    test::expect_near(test::read(d.slice_cols(0, 1000)), expected_gate, 1e-5, "d_gate");
    test::expect_near(test::read(d.slice_cols(1000, 1000)), expected_up, 1e-6, "d_up");
  } else {
    test::expect_same_bits(test::read(h), expected_h, "h");
    test::expect_same_bits(test::read(d.slice_cols(0, 1000)), expected_gate, "d_gate");
    test::expect_same_bits(test::read(d.slice_cols(1000, 1000)), expected_up, "d_up");
  }
}

TEST(SwigluOp, BitsDependNeitherOnThreadsNorOnOtherRows) {
  const int64_t rows = 130, cols = 300;
  const Numbers x = test::random_numbers(rows * 2 * cols, 8),
                dh = test::random_numbers(rows * cols, 9);
  const Numbers weight = test::random_numbers(rows, 10);
  Numbers first_h, first_d, first_dw;
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    const Tensor gate_up = test::tensor_of(ctx, {rows, 2 * cols}, DType::bf16, x);
    const Tensor dh_TF = test::tensor_of(ctx, {rows, cols}, DType::bf16, dh);
    const Tensor w = test::tensor_of(ctx, {rows}, DType::f32, weight);
    Tensor h = ctx.empty({rows, cols}, DType::bf16, Purpose::activations);
    Tensor d = ctx.empty({rows, 2 * cols}, DType::bf16, Purpose::activations);
    Tensor dw = ctx.empty({rows}, DType::f32, Purpose::activations);
    swiglu(ctx, gate_up, w, h);
    swiglu_backward(ctx, dh_TF, gate_up, w, d, dw);
    if (threads == 1) {
      first_h = test::read(h), first_d = test::read(d), first_dw = test::read(dw);
      Tensor one = ctx.empty({1, cols}, DType::bf16, Purpose::activations);
      const Tensor one_w = test::tensor_of(ctx, {1}, DType::f32, {weight[99]});
      swiglu(ctx, gate_up.slice_rows(99, 1), one_w, one);
      test::expect_same_bits(test::read(one), test::read(h.slice_rows(99, 1)), "one row");
    }
    test::expect_same_bits(test::read(h), first_h, "h");
    test::expect_same_bits(test::read(d), first_d, "d_gate_up");
    test::expect_same_bits(test::read(dw), first_dw, "d_weight");
  }
}

TEST(SwigluOp, NoRowsMetaAndErrors) {
  Context ctx(Device::cpu, 2);
  Tensor empty_h = ctx.empty({0, 8}, DType::f32, Purpose::routed), none;
  const Tensor empty = ctx.empty({0, 16}, DType::f32, Purpose::routed);
  swiglu(ctx, empty, none, empty_h);
  Tensor d_empty = ctx.empty({0, 16}, DType::f32, Purpose::routed);
  swiglu_backward(ctx, empty_h, empty, none, d_empty, none);

  Context meta(Device::meta, 1);
  const Tensor x = meta.empty({4, 16}, DType::bf16, Purpose::activations);
  Tensor h = meta.empty({4, 8}, DType::bf16, Purpose::activations);
  swiglu(meta, x, none, h);
  EXPECT_EQ(meta.spent().bytes, 4 * 16 * 2 + 4 * 8 * 2);
  EXPECT_THROW(swiglu(meta, x, meta.empty({5}, DType::f32, Purpose::routed), h), InternalError);
  EXPECT_THROW(swiglu(meta, meta.empty({4, 15}, DType::bf16, Purpose::routed), none, h),
               InternalError);
  Tensor d = meta.empty({4, 16}, DType::bf16, Purpose::activations);
  const Tensor weight = meta.empty({4}, DType::f32, Purpose::routed);
  EXPECT_THROW(swiglu_backward(meta, h, x, weight, d, none), InternalError);
}

}  // namespace
}  // namespace strait
