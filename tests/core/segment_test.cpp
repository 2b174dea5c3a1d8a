#include "core/autograd/segment.h"

#include "core/autograd/functions.h"
#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

Tensor numbers(Context& ctx, const Numbers& values) {
  return test::tensor_of(ctx, {static_cast<int64_t>(values.size())}, DType::f32, values);
}

TEST(GradientOfAValue, TakesOverTheFirstPartAndAddsTheOthers) {
  Context ctx(Device::cpu, 1);
  Gradient gradient(DType::f32);
  EXPECT_FALSE(gradient.defined());
  Tensor first = numbers(ctx, {1, 2});
  const void* storage = first.raw();
  gradient.add(ctx, std::move(first));
  gradient.add(ctx, numbers(ctx, {10, 20}));
  const Tensor sum = gradient.take();
  EXPECT_EQ(test::read(sum), (Numbers{11, 22}));
  EXPECT_EQ(sum.raw(), storage) << "the first part's storage is used";
  EXPECT_FALSE(gradient.defined());
}

TEST(GradientOfAValue, NeverChangesAPartThatOthersHold) {
  Context ctx(Device::cpu, 1);
  Gradient gradient(DType::f32);
  const Tensor held = numbers(ctx, {1, 2});
  gradient.add(ctx, held);
  gradient.add(ctx, numbers(ctx, {10, 20}));
  EXPECT_EQ(test::read(held), (Numbers{1, 2}));
  EXPECT_EQ(test::read(gradient.take()), (Numbers{11, 22}));

  gradient.add(ctx, held);
  bool fresh = true;
  Tensor into = gradient.accumulator(ctx, {2}, fresh);
  EXPECT_FALSE(fresh);
  test::write(into, {5, 6});
  EXPECT_EQ(test::read(held), (Numbers{1, 2}));
  EXPECT_EQ(test::read(gradient.take()), (Numbers{5, 6}));
}

TEST(GradientOfAValue, AnAccumulatorHasTheDtypeAndShapeAskedFor) {
  Context ctx(Device::cpu, 1);
  Gradient gradient(DType::bf16);
  bool fresh = false;
  const Tensor into = gradient.accumulator(ctx, {3, 2}, fresh);
  EXPECT_TRUE(fresh);
  EXPECT_EQ(into.dtype(), DType::bf16);
  EXPECT_THROW(gradient.accumulator(ctx, {2, 3}, fresh), InternalError);
}

TEST(Segments, BackwardRunsInReverseAndWeightsInOrder) {
  Context ctx(Device::cpu, 1);
  Segment segment(ctx, Mode::training);
  std::vector<std::string> log;
  for (const char* name : {"a", "b", "c"})
    segment.on_backward([&, name] {
      log.push_back(name);
      segment.on_weights([&, name] { log.push_back(std::string("w") + name); });
    });
  segment.finish_forward();
  EXPECT_FALSE(segment.has_weight_work());
  segment.backward({});
  EXPECT_EQ(log, (std::vector<std::string>{"c", "b", "a"}));
  EXPECT_TRUE(segment.has_weight_work());
  log.clear();
  segment.weight_gradients();
  EXPECT_EQ(log, (std::vector<std::string>{"wc", "wb", "wa"}));
  EXPECT_FALSE(segment.has_weight_work());
}

TEST(Segments, RecomputeOnceWhatWasDropped) {
  Context ctx(Device::cpu, 1);
  Segment segment(ctx, Mode::training);
  int runs = 0;
  const auto recipe = [&] {
    ++runs;
    return numbers(ctx, {3});
  };
  const Var wanted = segment.result(numbers(ctx, {3}), DType::f32);
  const Var kept = segment.result(numbers(ctx, {4}), DType::f32);
  segment.may_recompute(wanted, true, recipe);
  segment.may_recompute(kept, false, recipe);
  EXPECT_EQ(runs, 0);
  segment.finish_forward();
  const int64_t before = ctx.memory().live().total();
  EXPECT_EQ(before, 64) << "only what is kept is still there";
  EXPECT_EQ(test::read(wanted.get()), Numbers{3});
  EXPECT_EQ(test::read(wanted.get()), Numbers{3});
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(test::read(kept.get()), Numbers{4});
  EXPECT_EQ(runs, 1);
}

TEST(Segments, AValueWithoutARecipeThatIsGoneIsABug) {
  Value value{Tensor{}};
  EXPECT_THROW(value.get(), InternalError);
}

TEST(Segments, RecordNothingInInference) {
  Context ctx(Device::cpu, 1);
  Segment segment(ctx, Mode::inference);
  const Var x = segment.input(numbers(ctx, {1}));
  EXPECT_EQ(x.gradient, nullptr);
  bool ran = false;
  segment.on_backward([&] { ran = true; });
  segment.may_recompute(x, true, [&] {
    ran = true;
    return Tensor{};
  });
  segment.finish_forward();
  segment.backward({});
  EXPECT_FALSE(ran);
  EXPECT_EQ(test::read(x.get()), Numbers{1});
}

// Memory falls as the lists are consumed: after the weight gradients only what the caller holds is
// left.
TEST(Segments, FreeWhatTheyKept) {
  Context ctx(Device::cpu, 1);
  Parameter weight;
  weight.shape = {5, 3};
  weight.weight = test::tensor_of(ctx, {5, 3}, DType::f32, test::random_numbers(15, 1));
  weight.gradient = ctx.zeros({5, 3}, DType::f32, Purpose::gradients);
  weight.packed.pack(ctx, weight.weight, DType::f32);
  const int64_t before = ctx.memory().live().total();
  Segment segment(ctx, Mode::training);
  {
    // No gradient is wanted of a constant: only the weight gets one.
    const Var x = segment.constant(test::tensor_of(ctx, {4, 3}, DType::f32, Numbers(12, 1)));
    const Var y = linear(segment, x, weight, DType::f32);
    segment.finish_forward();
    segment.backward({{y, test::tensor_of(ctx, {4, 5}, DType::f32, Numbers(20, 2))}});
    EXPECT_EQ(x.gradient, nullptr);
  }
  EXPECT_GT(ctx.memory().live().total(), before) << "the weight gradient needs x and dy";
  segment.weight_gradients();
  EXPECT_EQ(ctx.memory().live().total(), before);
  EXPECT_EQ(test::read(weight.gradient), Numbers(15, 8));
}

}  // namespace
}  // namespace strait
