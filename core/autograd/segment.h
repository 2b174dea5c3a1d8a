// core/autograd/segment.h: the tape of one phase of one micro-batch.
//
// A segment records two lists while its forward runs: input gradients, on the critical path, and
// weight gradients, which nobody needs before the update. They run at different times:
//   Segment segment(ctx, Mode::training);
//   Var x = segment.input(tensor);  Var y = linear(segment, x, weight);
//   segment.finish_forward();                        // values that can be recomputed are dropped
//   here segment.backward({{y, dy}});  use(x.gradient->tensor); segment.weight_gradients(); // any
//   time later
// A Value is kept only by the closures that need it, so memory falls as the lists are consumed. A
// value with a recipe (norms, MLA up-projections, SwiGLU) is recomputed at its first use in
// backward and then kept until its last use. Called from the rank's compute thread only. Source of
// the split into two lists: zero-bubble pipelines, arXiv 2401.10241; DeepSeek-V3 report,
// section 3.2.1.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/context.h"
#include "core/ops/quantize.h"
#include "core/tensor.h"

namespace strait {

// Which values backward recomputes instead of keeping, and whether it keeps others in fewer bits.
struct Recompute {
  bool norms = true;
  bool mla_up = true;
  bool swiglu = true;
  bool compact = false;  // SwiGLU's inputs in FP8, attention's output in E5M6
};

class Value {
 public:
  explicit Value(Tensor tensor) : tensor_(std::move(tensor)) {}
  // A value that exists as codes in tiles of 1 x 128. get() needs a recipe.
  explicit Value(std::shared_ptr<const Fp8Matrix> rows) : rows_(std::move(rows)) {}
  // Codes that came from elsewhere: kept as long as the value, which is what they stand for.
  Value(const Fp8Matrix& rows, std::function<Tensor()> decode)
      : rows_(std::make_shared<const Fp8Matrix>(rows)),
        recipe_(std::move(decode)),
        keeps_rows_(true) {}
  // The tensor; recomputed, once, when it was dropped.
  const Tensor& get();
  void set_recipe(std::function<Tensor()> recipe) { recipe_ = std::move(recipe); }
  bool has_recipe() const { return recipe_ != nullptr; }
  bool is_codes() const { return keeps_rows_; }
  int64_t num_rows() const { return rows_ ? rows_->codes_RC.rows() : tensor_.rows(); }
  void drop() {
    if (!recipe_) return;
    tensor_ = {};
    if (!keeps_rows_) rows_ = nullptr;
    dropped_ = true;
  }
  // The tensor in FP8, made once for all the products that read it: in tiles of 1 x 128, kept as
  // long as the tensor is; in tiles of 128 x 1 along each group's rows, kept by who asked for it.
  std::shared_ptr<const Fp8Matrix> fp8_rows(Context& ctx, Purpose purpose);
  std::shared_ptr<const Fp8Matrix> fp8_columns(Context& ctx, std::span<const int64_t> offsets,
                                               Purpose purpose);

 private:
  Tensor tensor_;
  std::shared_ptr<const Fp8Matrix> rows_;
  std::weak_ptr<const Fp8Matrix> columns_;
  std::function<Tensor()> recipe_;
  bool keeps_rows_ = false;
  bool dropped_ = false;
};

// The gradient of a value: the sum of what its consumers add, in one dtype. A value with several
// consumers (a norm's output) sums in FP32; one with a single consumer keeps the compute dtype.
class Gradient {
 public:
  explicit Gradient(DType dtype) : dtype_(dtype) {}
  DType dtype() const { return dtype_; }
  bool defined() const { return tensor_.defined(); }
  // Takes over `part`, or adds it to what is there.
  void add(Context& ctx, Tensor part);
  // For kernels that write or accumulate: the sum so far, or a new tensor; `fresh` tells which.
  Tensor accumulator(Context& ctx, Shape shape, bool& fresh);
  Tensor take() { return std::exchange(tensor_, {}); }

 private:
  void make_own(Context& ctx);
  DType dtype_;
  Tensor tensor_;
};

struct Var {
  std::shared_ptr<Value> value;
  std::shared_ptr<Gradient> gradient;  // null: no gradient wanted
  bool defined() const { return value != nullptr; }
  const Tensor& get() const { return value->get(); }
};

enum class Mode : uint8_t { training, inference };

class Segment {
 public:
  // `name`: of what it computes, for messages.
  Segment(Context& ctx, Mode mode, Recompute recompute = {}, std::string name = {})
      : ctx_(&ctx), mode_(mode), recompute_(recompute), name_(std::move(name)) {}
  Segment(const Segment&) = delete;  // recorded work refers to its segment
  Segment& operator=(const Segment&) = delete;

  Context& ctx() { return *ctx_; }
  bool training() const { return mode_ == Mode::training; }
  const Recompute& recompute() const { return recompute_; }
  const std::string& name() const { return name_; }

  Var input(Tensor tensor);  // a value whose gradient is wanted after backward(), in FP32
  Var input(std::shared_ptr<Value> value);  // the same for a value that another segment made
  Var constant(Tensor tensor);              // no gradient
  // For ops: a new value whose gradient is summed in `gradient_dtype`.
  Var result(Tensor tensor, DType gradient_dtype);
  Var result(Value value, DType gradient_dtype);
  // For ops: lets backward recompute `var` with `recipe` when `wanted` (a field of recompute()).
  void may_recompute(const Var& var, bool wanted, std::function<Tensor()> recipe);
  // For ops: the work of backward. Input-gradient work runs in reverse order of recording.
  void on_backward(std::function<void()> work);
  // For ops, called from within backward work: weight-gradient work, run in the order added.
  void on_weights(std::function<void()> work);

  void finish_forward();
  // Adds the outputs' gradients, runs all input-gradient work and frees it.
  void backward(std::vector<std::pair<Var, Tensor>> output_gradients);
  void weight_gradients();
  bool has_weight_work() const { return !weight_work_.empty(); }

 private:
  Context* ctx_;
  Mode mode_;
  Recompute recompute_;
  std::string name_;
  std::vector<std::weak_ptr<Value>> droppable_;
  std::vector<std::function<void()>> backward_work_;
  std::vector<std::function<void()>> weight_work_;
};

}  // namespace strait
