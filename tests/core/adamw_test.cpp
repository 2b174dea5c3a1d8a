#include "core/ops/adamw.h"

#include "core/ops/math/scalar.h"
#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

// Three steps in FP64, as the algorithm is written.
struct Reference {
  Numbers p, m, v;
  void step(const AdamWStep& s, const Numbers& gradient) {
    for (size_t i = 0; i < p.size(); ++i) {
      const double g = gradient[i] * s.gradient_scale;
      p[i] *= 1 - s.lr * s.weight_decay;
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
      const double m_hat = m[i] / s.bias_correction1, v_hat = v[i] / s.bias_correction2;
      p[i] -= s.lr * m_hat / (std::sqrt(v_hat) + s.eps);
    }
  }
};

AdamWStep step_number(int t) {
  AdamWStep step{.lr = 3e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
  step.bias_correction1 = 1 - std::pow(step.beta1, t);
  step.bias_correction2 = 1 - std::pow(step.beta2, t);
  step.gradient_scale = 0.5;
  return step;
}

AdamWTensors tensors_of(Context& ctx, const Numbers& p, DType m_type, DType v_type) {
  const Shape shape{static_cast<int64_t>(p.size())};
  AdamWTensors t;
  t.gradient = ctx.zeros(shape, DType::f32, Purpose::gradients);
  t.master = test::tensor_of(ctx, shape, DType::f32, p);
  t.m = ctx.zeros(shape, m_type, Purpose::optimizer);
  t.v = ctx.zeros(shape, v_type, Purpose::optimizer);
  t.copy_f32 = ctx.zeros(shape, DType::f32, Purpose::weights);
  t.copy_bf16 = ctx.zeros(shape, DType::bf16, Purpose::weights);
  return t;
}

class AdamW : public ::testing::TestWithParam<int64_t> {};

TEST_P(AdamW, FollowsTheAlgorithm) {
  const int64_t numel = GetParam();
  Context ctx(Device::cpu, 2);
  Reference reference{test::random_numbers(numel, 1), Numbers(static_cast<size_t>(numel)),
                      Numbers(static_cast<size_t>(numel))};
  AdamWTensors t = tensors_of(ctx, reference.p, DType::f32, DType::f32);
  for (int step = 1; step <= 3; ++step) {
    const Numbers gradient = test::random_numbers(numel, static_cast<uint32_t>(10 + step), 0.1);
    test::write(t.gradient, gradient);
    adamw(ctx, step_number(step), t);
    reference.step(step_number(step), gradient);
  }
  test::expect_near(test::read(t.master), reference.p, 1e-6, "master");
  test::expect_near(test::read(t.m), reference.m, 1e-6, "m");
  test::expect_near(test::read(t.v), reference.v, 1e-6, "v");
  test::expect_same_bits(test::read(t.copy_f32), test::read(t.master), "copy");
  Numbers rounded = test::read(t.master);
  for (double& value : rounded) value = test::rounded(value, DType::bf16);
  test::expect_same_bits(test::read(t.copy_bf16), rounded, "bf16 copy");
}

INSTANTIATE_TEST_SUITE_P(Sizes, AdamW, ::testing::Values(0, 1, 17, 1000, 40001));

TEST(AdamWOp, FollowsTheScalarDefinitionForEveryMomentType) {
  const int64_t numel = 333;
  const Numbers p = test::random_numbers(numel, 2), gradient = test::random_numbers(numel, 3);
  const AdamWFactors factors = adamw_factors(step_number(7));
  for (DType m_type : {DType::f32, DType::bf16}) {
    for (DType v_type : {DType::f32, DType::bf16}) {
      Context ctx(Device::cpu, 1);
      AdamWTensors t = tensors_of(ctx, p, m_type, v_type);
      Numbers m = test::random_numbers(numel, 4, 1, m_type),
              v = test::random_numbers(numel, 5, 1, v_type);
      for (double& value : v) value = std::fabs(value);
      test::write(t.gradient, gradient);
      test::write(t.m, m);
      test::write(t.v, v);
      Numbers expected = p;
      for (size_t i = 0; i < p.size(); ++i) {
        float pf = static_cast<float>(p[i]), mf = static_cast<float>(m[i]),
              vf = static_cast<float>(v[i]);
        adamw_element<Scalar>(factors, static_cast<float>(gradient[i]), pf, mf, vf);
        expected[i] = pf, m[i] = test::rounded(mf, m_type), v[i] = test::rounded(vf, v_type);
      }
      adamw(ctx, step_number(7), t);
      if (cpu::isa() == cpu::Isa::portable) {
        test::expect_near(test::read(t.master), expected, 1e-6, "master");
        continue;
      }
      test::expect_same_bits(test::read(t.master), expected, "master");
      test::expect_same_bits(test::read(t.m), m, "m");
      test::expect_same_bits(test::read(t.v), v, "v");
    }
  }
}

// One step of torch.optim.AdamW of PyTorch's documented algorithm, worked by hand: from p = 1, g =
// 0.5 and zero moments, m_hat / sqrt(v_hat) is 1, so p = 1 * (1 - 0.1 * 0.01) - 0.1 * 0.5 / (0.5 +
// 0.25).
TEST(AdamWOp, OneStepByHand) {
  Context ctx(Device::cpu, 1);
  AdamWTensors t = tensors_of(ctx, {1}, DType::f32, DType::f32);
  t.copy_f32 = Tensor(), t.copy_bf16 = Tensor();
  test::write(t.gradient, {0.5});
  adamw(ctx,
        {.lr = 0.1,
         .beta1 = 0.9,
         .beta2 = 0.99,
         .eps = 0.25,
         .weight_decay = 0.01,
         .bias_correction1 = 0.1,
         .bias_correction2 = 0.01},
        t);
  test::expect_near(test::read(t.master), {1 * (1 - 0.001) - 0.1 * 0.5 / 0.75}, 1e-6, "master");
}

TEST(AdamWOp, BitsDependNeitherOnThreadsNorOnWhereTheShardIsCut) {
  const int64_t numel = 50000, cut = 12345;
  const Numbers p = test::random_numbers(numel, 6), gradient = test::random_numbers(numel, 7);
  Numbers first;
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    AdamWTensors t = tensors_of(ctx, p, DType::bf16, DType::bf16);
    test::write(t.gradient, gradient);
    adamw(ctx, step_number(1), t);
    if (threads == 1) first = test::read(t.master);
    test::expect_same_bits(test::read(t.master), first, "threads");
    AdamWTensors tail =
        tensors_of(ctx, Numbers(p.begin() + cut, p.end()), DType::bf16, DType::bf16);
    test::write(tail.gradient, Numbers(gradient.begin() + cut, gradient.end()));
    adamw(ctx, step_number(1), tail);
    test::expect_same_bits(test::read(tail.master), Numbers(first.begin() + cut, first.end()),
                           "shard");
  }
}

TEST(AdamWOp, MetaAndErrors) {
  Context meta(Device::meta, 1);
  AdamWTensors t;
  t.gradient = meta.empty({10}, DType::f32, Purpose::gradients);
  t.master = meta.empty({10}, DType::f32, Purpose::optimizer);
  t.m = meta.empty({10}, DType::bf16, Purpose::optimizer);
  t.v = meta.empty({10}, DType::bf16, Purpose::optimizer);
  adamw(meta, step_number(1), t);
  EXPECT_EQ(meta.spent().bytes, 10 * (4 + 2 * (4 + 2 + 2)));
  t.v = meta.empty({11}, DType::bf16, Purpose::optimizer);
  EXPECT_THROW(adamw(meta, step_number(1), t), InternalError);
}

}  // namespace
}  // namespace strait
