// tests/core/function_check.h: one function of the tape against its definition in FP64: the value,
// the gradient of every input and of every weight, with and without recomputation, for one thread
// and two, and row by row.
#pragma once

#include <functional>
#include <memory>

#include "core/autograd/functions.h"
#include "core/ops/elementwise.h"
#include "op_test.h"

namespace strait::test {

class FunctionCheck {
 public:
  using Build = std::function<Var(Segment&, const std::vector<Var>& x, std::vector<Parameter>& w)>;
  using Definition =
      std::function<Numbers(const std::vector<Numbers>& x, const std::vector<Numbers>& w)>;

  // Inputs and weights hold standard normal numbers, as their type holds them.
  FunctionCheck& input(Shape shape, DType dtype) {
    inputs_.push_back({shape, dtype, random_numbers(shape.numel(), next_seed_++, 1, dtype)});
    return *this;
  }
  FunctionCheck& weight(Shape shape, DType dtype, Role role) {
    weights_.push_back({shape, dtype, random_numbers(shape.numel(), next_seed_++, 1, dtype), role});
    return *this;
  }
  // Of the value and the gradients, in the sense of expect_near. FP32: the default.
  FunctionCheck& tolerance(double relative) {
    tolerance_ = relative;
    return *this;
  }
  // The result of a row depends on that row of each input alone.
  FunctionCheck& by_rows() {
    by_rows_ = true;
    return *this;
  }

  void run(const Build& build, const Definition& definition) {
    const Outcome first = outcome(build, {.threads = 1});
    expect_definition(first, definition);
    expect_same(outcome(build, {.threads = 2}), first, "two threads");
    expect_same(outcome(build, {.threads = 2, .recompute = false}), first, "nothing recomputed");
    expect_inference(build, first);
    if (by_rows_) expect_rows(build, first);
  }

 private:
  struct Operand {
    Shape shape;
    DType dtype = DType::f32;
    Numbers numbers;
    Role role = Role::linear;
  };
  struct Options {
    int threads = 1;
    bool recompute = true;
    int64_t only_row = -1;
  };
  struct Outcome {
    Numbers y, dy;
    std::vector<Numbers> dx, dw;
    int64_t rows = 0;
  };
  static constexpr double kGradientBefore = 0.5;  // weight gradients are added to what is there
  static constexpr size_t kSampled = 16;

  std::vector<Parameter> parameters(Context& ctx) const {
    std::vector<Parameter> result;
    for (const Operand& w : weights_) {
      Parameter& p = result.emplace_back();
      p.shape = w.shape, p.dtype = p.operands = w.dtype, p.role = w.role;
      p.weight = tensor_of(ctx, w.shape, w.dtype, w.numbers);
      p.gradient = tensor_of(ctx, w.shape, DType::f32, Numbers(w.numbers.size(), kGradientBefore));
      if (w.role == Role::linear || w.role == Role::expert_stack)
        p.packed.pack(ctx, p.weight, w.dtype);
    }
    return result;
  }
  std::vector<Tensor> tensors(Context& ctx, int64_t only_row) const {
    std::vector<Tensor> result;
    for (const Operand& x : inputs_) {
      if (only_row < 0) {
        result.push_back(tensor_of(ctx, x.shape, x.dtype, x.numbers));
        continue;
      }
      const int64_t cols = x.shape.rank() == 1 ? 1 : x.shape[1];
      const auto begin = x.numbers.begin() + only_row * cols;
      const Shape shape = x.shape.rank() == 1 ? Shape{1} : Shape{1, cols};
      result.push_back(tensor_of(ctx, shape, x.dtype, Numbers(begin, begin + cols)));
    }
    return result;
  }

  Outcome outcome(const Build& build, const Options& options) const {
    Context ctx(Device::cpu, options.threads);
    std::vector<Parameter> w = parameters(ctx);
    const bool recompute = options.recompute;
    Segment segment(ctx, Mode::training, {recompute, recompute, recompute});
    std::vector<Var> x;
    for (const Tensor& tensor : tensors(ctx, options.only_row)) x.push_back(segment.input(tensor));
    const Var y = build(segment, x, w);
    Outcome result;
    const Shape shape = y.get().shape();
    result.y = read(y.get()), result.rows = y.get().rows();
    segment.finish_forward();
    result.dy = gradient_numbers(result.y.size(), y.gradient->dtype(), options.only_row);
    segment.backward({{y, tensor_of(ctx, shape, y.gradient->dtype(), result.dy)}});
    for (const Var& var : x) result.dx.push_back(read(var.gradient->take()));
    segment.weight_gradients();
    EXPECT_FALSE(segment.has_weight_work());
    for (const Parameter& parameter : w) result.dw.push_back(read(parameter.gradient));
    return result;
  }

  // The gradient of the result; of one row when only that row runs.
  static Numbers gradient_numbers(size_t count, DType dtype, int64_t row) {
    if (row < 0) return random_numbers(static_cast<int64_t>(count), 99, 1, dtype);
    const Numbers all = random_numbers(static_cast<int64_t>(count) * (row + 1), 99, 1, dtype);
    return Numbers(all.end() - static_cast<int64_t>(count), all.end());
  }

  void expect_definition(const Outcome& got, const Definition& definition) const {
    std::vector<Numbers> x, w;
    for (const Operand& operand : inputs_) x.push_back(operand.numbers);
    for (const Operand& operand : weights_) w.push_back(operand.numbers);
    expect_near(got.y, definition(x, w), tolerance_, "value");
    const auto loss = [&] { return dot(definition(x, w), got.dy); };
    const double noise = difference_noise(std::sqrt(dot(got.dy, got.dy)) * 4);
    for (size_t i = 0; i < x.size(); ++i)
      expect_slopes(got.dx[i], 0, x[i], loss, noise, "gradient of an input");
    for (size_t i = 0; i < w.size(); ++i)
      expect_slopes(got.dw[i], kGradientBefore, w[i], loss, noise, "gradient of a weight");
  }
  // Compares d - before with the slopes of the loss along (some of) x, which the loss reads.
  void expect_slopes(const Numbers& d, double before, Numbers& x,
                     const std::function<double()>& loss, double noise, const char* what) const {
    ASSERT_EQ(d.size(), x.size()) << what;
    const size_t stride = x.size() <= 8 * kSampled ? 1 : x.size() / kSampled;
    Numbers got, expected;
    for (size_t i = 0; i < x.size(); i += stride) {
      const double at = x[i];
      x[i] = at + kDifferenceStep;
      const double above = loss();
      x[i] = at - kDifferenceStep;
      expected.push_back((above - loss()) / (2 * kDifferenceStep));
      x[i] = at;
      got.push_back(d[i] - before);
    }
    expect_near(got, expected, 4 * tolerance_, what, noise + before * unit(DType::f32));
  }
  static void expect_same(const Outcome& got, const Outcome& first, const char* what) {
    expect_same_bits(got.y, first.y, what);
    for (size_t i = 0; i < first.dx.size(); ++i) expect_same_bits(got.dx[i], first.dx[i], what);
    for (size_t i = 0; i < first.dw.size(); ++i) expect_same_bits(got.dw[i], first.dw[i], what);
  }
  // Without a tape: the same value, and nothing is recorded.
  void expect_inference(const Build& build, const Outcome& first) const {
    Context ctx(Device::cpu, 2);
    std::vector<Parameter> w = parameters(ctx);
    Segment segment(ctx, Mode::inference);
    std::vector<Var> x;
    for (const Tensor& tensor : tensors(ctx, -1)) x.push_back(segment.input(tensor));
    const Var y = build(segment, x, w);
    EXPECT_EQ(y.gradient, nullptr);
    segment.finish_forward();
    expect_same_bits(read(y.get()), first.y, "inference");
  }
  void expect_rows(const Build& build, const Outcome& first) const {
    for (int64_t row : {int64_t{0}, first.rows / 2, first.rows - 1}) {
      if (row < 0 || row >= first.rows) continue;
      const Outcome one = outcome(build, {.threads = 1, .only_row = row});
      const auto slice = [&](const Numbers& all) {
        const auto cols = static_cast<int64_t>(all.size()) / first.rows;
        return Numbers(all.begin() + row * cols, all.begin() + (row + 1) * cols);
      };
      expect_same_bits(one.y, slice(first.y), "one row");
      for (size_t i = 0; i < one.dx.size(); ++i)
        expect_same_bits(one.dx[i], slice(first.dx[i]), "one row's gradient");
    }
  }

  std::vector<Operand> inputs_, weights_;
  double tolerance_ = 2e-6;
  bool by_rows_ = false;
  uint32_t next_seed_ = 1;
};

}  // namespace strait::test
