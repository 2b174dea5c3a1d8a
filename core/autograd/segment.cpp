#include "core/autograd/segment.h"

#include "core/ops/elementwise.h"

namespace strait {

const Tensor& Value::get() {
  if (!tensor_.defined() && recipe_) {
    tensor_ = recipe_();
    if (dropped_) recipe_ = nullptr;  // and what it reads
  }
  STRAIT_CHECK(tensor_.defined(), "value was dropped and has no recipe");
  return tensor_;
}

std::shared_ptr<const Fp8Matrix> Value::fp8_rows(Context& ctx, Purpose purpose) {
  if (!rows_)
    rows_ = std::make_shared<const Fp8Matrix>(fp8_rows_of(ctx, get(), kActivationScales, purpose));
  return rows_;
}

std::shared_ptr<const Fp8Matrix> Value::fp8_columns(Context& ctx, std::span<const int64_t> offsets,
                                                    Purpose purpose) {
  if (auto columns = columns_.lock()) return columns;
  auto columns = std::make_shared<const Fp8Matrix>(
      fp8_columns_of(ctx, get(), offsets, kActivationScales, purpose));
  columns_ = columns;
  return columns;
}

// Others may hold what was added first (weight-gradient work, an exchange's buffer): then the sum
// goes to a new tensor.
void Gradient::make_own(Context& ctx) {
  if (tensor_.unique()) return;
  Tensor own = ctx.empty(tensor_.shape(), tensor_.dtype(), Purpose::activations);
  cast(ctx, tensor_, own);
  tensor_ = own;
}

void Gradient::add(Context& ctx, Tensor part) {
  if (!tensor_.defined()) {
    tensor_ = std::move(part);
    return;
  }
  make_own(ctx);
  strait::add(ctx, part, tensor_);
}

Tensor Gradient::accumulator(Context& ctx, Shape shape, bool& fresh) {
  fresh = !tensor_.defined();
  if (fresh) {
    tensor_ = ctx.empty(shape, dtype_, Purpose::activations);
  } else {
    make_own(ctx);
  }
  STRAIT_CHECK(tensor_.shape() == shape, tensor_.shape().str());
  return tensor_;
}

Var Segment::input(Tensor tensor) { return result(std::move(tensor), DType::f32); }

Var Segment::input(std::shared_ptr<Value> value) {
  return {std::move(value), training() ? std::make_shared<Gradient>(DType::f32) : nullptr};
}

Var Segment::constant(Tensor tensor) {
  return {std::make_shared<Value>(std::move(tensor)), nullptr};
}

Var Segment::result(Tensor tensor, DType gradient_dtype) {
  return result(Value(std::move(tensor)), gradient_dtype);
}

Var Segment::result(Value value, DType gradient_dtype) {
  return {std::make_shared<Value>(std::move(value)),
          training() ? std::make_shared<Gradient>(gradient_dtype) : nullptr};
}

void Segment::may_recompute(const Var& var, bool wanted, std::function<Tensor()> recipe) {
  if (!training() || !wanted) return;
  var.value->set_recipe(std::move(recipe));
  droppable_.push_back(var.value);
}

void Segment::on_backward(std::function<void()> work) {
  if (training()) backward_work_.push_back(std::move(work));
}

void Segment::on_weights(std::function<void()> work) { weight_work_.push_back(std::move(work)); }

void Segment::finish_forward() {
  for (const auto& weak : droppable_) {
    if (const auto value = weak.lock()) value->drop();
  }
  droppable_.clear();
}

void Segment::backward(std::vector<std::pair<Var, Tensor>> output_gradients) {
  for (auto& [var, gradient] : output_gradients) var.gradient->add(*ctx_, std::move(gradient));
  output_gradients.clear();
  while (!backward_work_.empty()) {
    backward_work_.back()();
    backward_work_.pop_back();
  }
}

void Segment::weight_gradients() {
  for (auto& work : weight_work_) {
    work();
    work = nullptr;
  }
  weight_work_.clear();
}

}  // namespace strait
