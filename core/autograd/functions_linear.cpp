// core/autograd/functions_linear.cpp: linear layers, dense and grouped.
#include "core/autograd/functions.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"

namespace strait {
namespace {

// dx (+)= dy W through `product(dx, accumulate)`. The GEMM accumulates in FP32 only, so a BF16
// gradient that has another part already gets this one by an addition.
template <class Product>
void add_input_gradient(Context& ctx, Gradient& gradient, Shape shape, const Product& product) {
  bool fresh = false;
  const Tensor dx = gradient.accumulator(ctx, shape, fresh);
  if (fresh || dx.dtype() == DType::f32) {
    product(dx, fresh ? Accumulate::no : Accumulate::yes);
    return;
  }
  const Tensor part = ctx.empty(shape, dx.dtype(), Purpose::workspace);
  product(part, Accumulate::no);
  gradient.add(ctx, part);
}

void record_linear(Segment& segment, const Var& x, Parameter& weight, const Var& y) {
  if (!segment.training()) return;
  segment.on_backward([&segment, &weight, x, dy_slot = y.gradient] {
    Context& ctx = segment.ctx();
    const Tensor dy = dy_slot->take();
    if (x.gradient)
      add_input_gradient(ctx, *x.gradient, {dy.rows(), weight.num_cols()},
                         [&](const Tensor& dx, Accumulate accumulate) {
                           linear_input_gradient(ctx, dy, weight.packed, dx, accumulate);
                         });
    segment.on_weights([&ctx, &weight, dy, value = x.value] {
      linear_weight_gradient(ctx, dy, value->get(), weight.gradient, Accumulate::yes);
    });
  });
}

Tensor run_linear(Context& ctx, const Tensor& x, const Parameter& weight, DType out) {
  Tensor y = ctx.empty({x.rows(), weight.num_rows()}, out, Purpose::activations);
  linear(ctx, x, weight.packed, y);
  return y;
}

}  // namespace

Var linear(Segment& segment, const Var& x, Parameter& weight, DType out) {
  return linear_recomputed(segment, x, weight, out, false);
}

Var linear_recomputed(Segment& segment, const Var& x, Parameter& weight, DType out, bool wanted) {
  Context& ctx = segment.ctx();
  Var y = segment.result(run_linear(ctx, x.get(), weight, out), out);
  segment.may_recompute(y, wanted, [&ctx, &weight, out, value = x.value] {
    return run_linear(ctx, value->get(), weight, out);
  });
  record_linear(segment, x, weight, y);
  return y;
}

Var linear_add(Segment& segment, const Var& x, Parameter& weight, const Var& residual) {
  Context& ctx = segment.ctx();
  const Tensor& before = residual.get();
  Tensor sum = ctx.empty(before.shape(), DType::f32, Purpose::activations);
  cast(ctx, before, sum);
  linear(ctx, x.get(), weight.packed, sum, Accumulate::yes);
  Var y = segment.result(sum, DType::f32);
  segment.on_backward([&segment, &weight, x, into = residual.gradient, dy_slot = y.gradient] {
    Context& ctx = segment.ctx();
    const Tensor dy = dy_slot->take();
    add_input_gradient(ctx, *x.gradient, {dy.rows(), weight.num_cols()},
                       [&](const Tensor& dx, Accumulate accumulate) {
                         linear_input_gradient(ctx, dy, weight.packed, dx, accumulate);
                       });
    into->add(ctx, dy);
    segment.on_weights([&ctx, &weight, dy, value = x.value] {
      linear_weight_gradient(ctx, dy, value->get(), weight.gradient, Accumulate::yes);
    });
  });
  return y;
}

Var linear_fp32(Segment& segment, const Var& x, Parameter& weight) {
  if (x.get().dtype() == DType::f32) return linear(segment, x, weight, DType::f32);
  Context& ctx = segment.ctx();
  const auto widen = [&ctx](const Tensor& narrow) {
    Tensor wide = ctx.empty(narrow.shape(), DType::f32, Purpose::workspace);
    cast(ctx, narrow, wide);
    return wide;
  };
  Var y = segment.result(run_linear(ctx, widen(x.get()), weight, DType::f32), DType::f32);
  segment.on_backward([&segment, &weight, x, widen, dy_slot = y.gradient] {
    Context& ctx = segment.ctx();
    const Tensor dy = dy_slot->take();
    add_input_gradient(ctx, *x.gradient, {dy.rows(), weight.num_cols()},
                       [&](const Tensor& dx, Accumulate accumulate) {
                         linear_input_gradient(ctx, dy, weight.packed, dx, accumulate);
                       });
    segment.on_weights([&ctx, &weight, dy, widen, value = x.value] {
      linear_weight_gradient(ctx, dy, widen(value->get()), weight.gradient, Accumulate::yes);
    });
  });
  return y;
}

Var grouped_linear(Segment& segment, const Var& x, Parameter& weight, const Offsets& offsets,
                   DType out) {
  Context& ctx = segment.ctx();
  const int64_t out_features = weight.shape[1], in_features = weight.shape[2];
  Tensor result = ctx.empty({x.get().rows(), out_features}, out, Purpose::routed);
  grouped_linear(ctx, x.get(), *offsets, weight.packed, result);
  Var y = segment.result(result, out);
  segment.on_backward([&segment, &weight, offsets, in_features, x, dy_slot = y.gradient] {
    Context& ctx = segment.ctx();
    const Tensor dy = dy_slot->take();
    add_input_gradient(
        ctx, *x.gradient, {dy.rows(), in_features}, [&](const Tensor& dx, Accumulate accumulate) {
          grouped_linear_input_gradient(ctx, dy, *offsets, weight.packed, dx, accumulate);
        });
    segment.on_weights([&ctx, &weight, offsets, dy, value = x.value] {
      grouped_linear_weight_gradient(ctx, dy, value->get(), *offsets, weight.gradient,
                                     Accumulate::yes);
    });
  });
  return y;
}

}  // namespace strait
