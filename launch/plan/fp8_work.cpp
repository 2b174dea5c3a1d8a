#include "launch/plan/fp8_work.h"

#include <set>

namespace strait {
namespace {

DType operands_of(Kind kind, const ModelFormats& formats) {
  switch (kind) {
    case Kind::attention:
      return formats.attention;
    case Kind::mlp:
    case Kind::shared:
      return formats.mlp;
    case Kind::experts:
      return formats.experts;
    default:
      return formats.compute;
  }
}

TaskOp moving(double bytes) { return {.cost = {.bytes = bytes}, .precision = Precision::bf16}; }

// The router: FP32 results of BF16 operands, as in the published trace.
bool is_router(const PhaseKey& key, const TaskOp& op) {
  return key.kind == Kind::attention && op.cost.op_class == OpClass::linear &&
         op.cost.operands == DType::f32;
}

// Element-wise work that makes `elements` FP8 codes and scales from `bytes` each.
TaskOp quantise(double elements, double bytes) { return moving(elements * (bytes + kFp8Bytes)); }

// The op with FP8 operands; its result is BF16, or an FP32 weight gradient.
TaskOp with_codes(TaskOp op) {
  const GemmSize& g = op.cost.gemm;
  const double rows = double(g.rows), weight = double(g.groups * g.in * g.out);
  op.precision = Precision::fp8;
  op.cost.bytes = g.weight_gradient
                      ? rows * double(g.in + g.out) * kFp8Bytes + 4 * weight
                      : rows * (double(g.in) * kFp8Bytes + double(g.out) * 2) + weight;
  return op;
}

class Converter {
 public:
  Converter(const PhaseKey& key, bool moe, const ModelWork& work, const EngineSettings& settings)
      : key_(key), moe_(moe), work_(work), settings_(settings) {}

  std::vector<TaskOp> convert(const std::vector<TaskOp>& ops) {
    std::vector<TaskOp> result;
    if (moe_ && settings_.fp8_dispatch && key_.kind == Kind::attention &&
        key_.pass == Pass::forward)
      result.push_back(
          quantise(double(work_.tokens * work_.hidden_size), 2));  // what dispatch sends
    for (const TaskOp& op : ops) {
      if (op.cost.op_class == OpClass::attention && settings_.recompute.compact)
        add_attention_output(ops, result);
      if (op.cost.op_class == OpClass::permute && settings_.fp8_dispatch) {
        result.push_back(op);
        result.back().cost.bytes *= kFp8Bytes / 2;
      } else if (is_fp8(op)) {
        add_quantised(op.cost.gemm, result);
        result.push_back(with_codes(op));
      } else {
        result.push_back(op);
        if (is_router(key_, op)) result.back().precision = Precision::bf16;
      }
    }
    return result;
  }

 private:
  bool is_fp8(const TaskOp& op) const {
    const bool product = op.cost.op_class == OpClass::linear || op.cost.op_class == OpClass::expert;
    return product && op.cost.operands == DType::bf16 &&
           operands_of(key_.kind, settings_.formats) == DType::e4m3;
  }
  void add_quantised(const GemmSize& gemm, std::vector<TaskOp>& result) {
    const double rows = double(gemm.rows);
    if (gemm.weight_gradient) {
      // Along the tokens: the gradient from BF16, the input from the codes that forward made.
      result.push_back(quantise(rows * double(gemm.out), 2));
      const bool output = key_.kind == Kind::attention && seen_.empty();
      if (is_new(gemm))
        result.push_back(quantise(rows * double(gemm.in), output ? kE5M6Bytes : kFp8Bytes));
      return;
    }
    const bool forward = key_.pass == Pass::forward, first = seen_.empty();
    const bool fresh = is_new(gemm);
    // What arrives at the experts is codes, and for the shared experts attention's task made them.
    if (first && (key_.kind == Kind::experts || (forward && key_.kind == Kind::shared))) return;
    if (forward && !fresh) return;
    result.push_back(quantise(rows * double(gemm.in), 2));
  }
  // Its 12-bit copy: made by forward, read by the backward of attention.
  void add_attention_output(const std::vector<TaskOp>& ops, std::vector<TaskOp>& result) {
    const bool forward = key_.pass == Pass::forward;
    const GemmSize* projection = nullptr;  // forward's last product, the first one of backward
    for (const TaskOp& op : ops)
      if (op.cost.op_class == OpClass::linear && !is_router(key_, op) &&
          (forward || projection == nullptr))
        projection = &op.cost.gemm;
    STRAIT_CHECK(projection != nullptr, "attention has a projection after it");
    const double elements =
        double(projection->rows) * double(forward ? projection->in : projection->out);
    result.push_back(moving(elements * (forward ? kE5M6Bytes : kE5M6Bytes + 2)));
  }
  // Products of one phase that read rows of one width read the same rows (q_a and kv_a).
  bool is_new(const GemmSize& gemm) { return seen_.insert(gemm.in).second; }

  const PhaseKey& key_;
  const bool moe_;
  const ModelWork& work_;
  const EngineSettings& settings_;
  std::set<int64_t> seen_;
};

}  // namespace

void ops_to_fp8(ModelWork& work, const EngineSettings& settings) {
  std::set<int> moe_layers;
  for (const auto& [key, phase] : work.phases)
    if (key.kind == Kind::experts) moe_layers.insert(key.layer);
  for (auto& [key, phase] : work.phases)
    phase.ops = Converter(key, moe_layers.contains(key.layer), work, settings).convert(phase.ops);
}

}  // namespace strait
