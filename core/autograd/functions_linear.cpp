// core/autograd/functions_linear.cpp: linear layers, dense and grouped.
#include "core/autograd/functions.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"

namespace strait {
namespace {

// A layer's weight, and which rows each expert has if it is a stack of them.
struct Layer {
  Parameter* weight;
  Offsets offsets;  // null: a plain weight

  bool fp8() const { return weight->operands == DType::e4m3; }
  int64_t in() const { return weight->num_cols(); }
  int64_t out() const { return weight->shape[weight->shape.rank() - 2]; }
  Purpose purpose() const { return offsets ? Purpose::routed : Purpose::activations; }
};

// `value` as a product with this layer's weight reads it in forward.
GemmOperand operand_of(Context& ctx, const Layer& layer, Value& value) {
  if (layer.fp8()) {
    const auto rows = value.fp8_rows(ctx, layer.purpose());
    require_finite(ctx, "the input of ", layer.weight->name);
    return *rows;
  }
  const Tensor& x = value.get();
  if (layer.weight->operands != DType::f32 || x.dtype() == DType::f32) return x;
  Tensor wide = ctx.empty(x.shape(), DType::f32, Purpose::workspace);
  cast(ctx, x, wide);
  return wide;
}

// What the weight's gradient needs of x: the value, where backward can make it again, and else its
// FP8 codes if that is what the products read.
class SavedInput {
 public:
  SavedInput(Context& ctx, const Layer& layer, const Var& x) {
    if (layer.fp8() && !x.value->has_recipe())
      rows_ = x.value->fp8_rows(ctx, layer.purpose());
    else
      value_ = x.value;
  }
  GemmOperand operand(Context& ctx, const Layer& layer) const {
    return operand_of(ctx, layer, *value_);
  }
  // Tiles of 128 x 1. Of codes the numbers they stand for are quantised again.
  std::shared_ptr<const Fp8Matrix> columns(Context& ctx, const Layer& layer,
                                           std::span<const int64_t> offsets) const {
    if (value_) return value_->fp8_columns(ctx, offsets, layer.purpose());
    auto columns = std::make_shared<Fp8Matrix>(
        empty_fp8_columns(ctx, rows_->codes_RC.rows(), layer.in(),
                          static_cast<int64_t>(offsets.size()) - 1, layer.purpose()));
    requantize_columns(ctx, *rows_, offsets, kActivationScales, *columns);
    return columns;
  }

 private:
  std::shared_ptr<Value> value_;
  std::shared_ptr<const Fp8Matrix> rows_;
};

void forward(Context& ctx, const Layer& layer, const GemmOperand& x, const Tensor& y,
             Accumulate accumulate = Accumulate::no) {
  if (layer.offsets)
    grouped_linear(ctx, x, *layer.offsets, layer.weight->packed, y, accumulate);
  else
    linear(ctx, x, layer.weight->packed, y, accumulate);
}

void input_gradient(Context& ctx, const Layer& layer, const GemmOperand& dy, const Tensor& dx,
                    Accumulate accumulate) {
  const PackedWeight& packed = layer.weight->packed;
  if (layer.offsets)
    grouped_linear_input_gradient(ctx, dy, *layer.offsets, packed, dx, accumulate);
  else
    linear_input_gradient(ctx, dy, packed, dx, accumulate);
}

void weight_gradient(Context& ctx, const Layer& layer, const GemmOperand& dy,
                     const GemmOperand& x) {
  const Tensor& dw = layer.weight->gradient;
  if (layer.offsets)
    grouped_linear_weight_gradient(ctx, dy, x, *layer.offsets, dw, Accumulate::yes);
  else
    linear_weight_gradient(ctx, dy, x, dw, Accumulate::yes);
}

// dx (+)= dy W. The GEMM accumulates in FP32 only, so a BF16 gradient that has another part already
// gets this one by an addition.
void add_input_gradient(Context& ctx, const Layer& layer, const GemmOperand& dy,
                        Gradient& gradient) {
  const Shape shape{dy.values.rows(), layer.in()};
  bool fresh = false;
  const Tensor dx = gradient.accumulator(ctx, shape, fresh);
  if (fresh || dx.dtype() == DType::f32)
    return input_gradient(ctx, layer, dy, dx, fresh ? Accumulate::no : Accumulate::yes);
  const Tensor part = ctx.empty(shape, dx.dtype(), Purpose::workspace);
  input_gradient(ctx, layer, dy, part, Accumulate::no);
  gradient.add(ctx, part);
}

std::vector<int64_t> groups_of(const Layer& layer, const Tensor& dy) {
  return layer.offsets ? *layer.offsets : std::vector<int64_t>{0, dy.rows()};
}

GemmOperand gradient_operand(Context& ctx, const Layer& layer, const Tensor& dy) {
  if (!layer.fp8()) return dy;
  const Fp8Matrix rows =
      layer.weight->gradient_blocks
          ? fp8_blocks_of(ctx, dy, groups_of(layer, dy), kGradientScales, Purpose::workspace).rows
          : fp8_rows_of(ctx, dy, kGradientScales, Purpose::workspace);
  require_finite(ctx, "the gradient of the output of ", layer.weight->name);
  return rows;
}

// In FP8 what waits for the weight's gradient is its two operands in tiles of 128 x 1.
void record_weight_gradient(Segment& segment, const Layer& layer, const Tensor& dy,
                            const SavedInput& x) {
  Context& ctx = segment.ctx();
  if (!layer.fp8())
    return segment.on_weights(
        [&ctx, layer, dy, x] { weight_gradient(ctx, layer, dy, x.operand(ctx, layer)); });
  const std::vector<int64_t> offsets = groups_of(layer, dy);
  segment.on_weights(
      [&ctx, layer,
       dy = layer.weight->gradient_blocks
                ? fp8_blocks_of(ctx, dy, offsets, kGradientScales, layer.purpose()).columns
                : fp8_columns_of(ctx, dy, offsets, kGradientScales, layer.purpose()),
       x = x.columns(ctx, layer, offsets)] { weight_gradient(ctx, layer, dy, *x); });
}

// y = x W^T (+ residual), with its backward.
void record(Segment& segment, const Layer& layer, const Var& x, const Var& y,
            const std::shared_ptr<Gradient>& residual = nullptr) {
  if (!segment.training()) return;
  segment.on_backward([&segment, layer, into = x.gradient, residual, dy_slot = y.gradient,
                       saved = SavedInput(segment.ctx(), layer, x)] {
    Context& ctx = segment.ctx();
    const Tensor dy = dy_slot->take();
    if (into) add_input_gradient(ctx, layer, gradient_operand(ctx, layer, dy), *into);
    if (residual) residual->add(ctx, dy);
    record_weight_gradient(segment, layer, dy, saved);
  });
}

Tensor run(Context& ctx, const Layer& layer, Value& x, DType out) {
  const GemmOperand operand = operand_of(ctx, layer, x);
  Tensor y = ctx.empty({operand.values.rows(), layer.out()}, out, layer.purpose());
  forward(ctx, layer, operand, y);
  return y;
}

}  // namespace

Var linear(Segment& segment, const Var& x, Parameter& weight, DType out) {
  return linear_recomputed(segment, x, weight, out, false);
}

Var linear_recomputed(Segment& segment, const Var& x, Parameter& weight, DType out, bool wanted) {
  Context& ctx = segment.ctx();
  const Layer layer{&weight, nullptr};
  Var y = segment.result(run(ctx, layer, *x.value, out), out);
  segment.may_recompute(
      y, wanted, [&ctx, layer, out, value = x.value] { return run(ctx, layer, *value, out); });
  record(segment, layer, x, y);
  return y;
}

Var linear_add(Segment& segment, const Var& x, Parameter& weight, const Var& residual) {
  Context& ctx = segment.ctx();
  const Layer layer{&weight, nullptr};
  const Tensor& before = residual.get();
  Tensor sum = ctx.empty(before.shape(), DType::f32, Purpose::activations);
  cast(ctx, before, sum);
  forward(ctx, layer, operand_of(ctx, layer, *x.value), sum, Accumulate::yes);
  Var y = segment.result(sum, DType::f32);
  record(segment, layer, x, y, residual.gradient);
  return y;
}

Var grouped_linear(Segment& segment, const Var& x, Parameter& weight, const Offsets& offsets,
                   DType out) {
  const Layer layer{&weight, offsets};
  Var y = segment.result(run(segment.ctx(), layer, *x.value, out), out);
  record(segment, layer, x, y);
  return y;
}

}  // namespace strait
