#include "launch/plan/fp8_work.h"

#include <cmath>
#include <set>

namespace strait {
namespace {

bool is_fp8(Kind kind, const TaskOp& op) {
  const bool product = op.cost.op_class == OpClass::linear || op.cost.op_class == OpClass::expert;
  return product && op.cost.operands == DType::bf16 && kind != Kind::head;
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
  Converter(const PhaseKey& key, bool moe, const ModelWork& work)
      : key_(key), moe_(moe), work_(work) {}

  std::vector<TaskOp> convert(const std::vector<TaskOp>& ops) {
    std::vector<TaskOp> result;
    if (moe_ && key_.kind == Kind::attention && key_.pass == Pass::forward)
      result.push_back(
          quantise(double(work_.tokens * work_.hidden_size), 2));  // what dispatch sends
    for (const TaskOp& op : ops) {
      if (op.cost.op_class == OpClass::attention) add_attention_output(ops, result);
      if (op.cost.op_class == OpClass::permute) {
        result.push_back(op);
        result.back().cost.bytes *= kFp8Bytes / 2;
      } else if (is_fp8(key_.kind, op)) {
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
      if (is_fp8(key_.kind, op) && (forward || projection == nullptr)) projection = &op.cost.gemm;
    const double elements =
        double(projection->rows) * double(forward ? projection->in : projection->out);
    result.push_back(moving(elements * (forward ? kE5M6Bytes : kE5M6Bytes + 2)));
  }
  // Products of one phase that read rows of one width read the same rows (q_a and kv_a).
  bool is_new(const GemmSize& gemm) { return seen_.insert(gemm.in).second; }

  const PhaseKey& key_;
  const bool moe_;
  const ModelWork& work_;
  std::set<int64_t> seen_;
};

// Bytes that BF16 keeps and FP8 does not: by purpose, after forward and after the input gradient.
struct Saved {
  MemoryUse after_forward, after_input_gradient;
};

class SavedBytes {
 public:
  SavedBytes(Kind kind, const ModelWork& work, const EngineSettings& settings)
      : kind_(kind), work_(work), settings_(settings) {}

  Saved of(const std::vector<TaskOp>& forward, const std::vector<TaskOp>& weights) {
    const std::vector<TaskOp> products = fp8_ops(forward), gradients = fp8_ops(weights);
    if (kind_ == Kind::experts || kind_ == Kind::mlp || kind_ == Kind::shared)
      mlp(products.front().cost.gemm, products.back().cost.gemm);
    else if (kind_ == Kind::attention)
      attention(products, gradients);
    return saved_;
  }

 private:
  static constexpr double kLess = 2 - kFp8Bytes;

  std::vector<TaskOp> fp8_ops(const std::vector<TaskOp>& ops) const {
    std::vector<TaskOp> result;
    for (const TaskOp& op : ops)
      if (is_fp8(kind_, op)) result.push_back(op);
    return result;
  }
  static void add(MemoryUse& use, Purpose purpose, double bytes) {
    use.bytes[size_t(purpose)] += std::llround(bytes);
  }
  void in_both(Purpose purpose, double bytes) {
    add(saved_.after_forward, purpose, bytes);
    add(saved_.after_input_gradient, purpose, bytes);
  }

  void mlp(const GemmSize& up, const GemmSize& down) {
    const bool experts = kind_ == Kind::experts;
    const Purpose purpose = experts ? Purpose::routed : Purpose::activations;
    const double rows = double(up.rows), gate_up = rows * double(up.out) * kLess;
    const double h = rows * double(down.in) * kLess;
    // SwiGLU's inputs, from which its output is made again; or both, of which backward leaves the
    // output.
    add(saved_.after_forward, purpose, settings_.recompute.swiglu ? gate_up : gate_up + h);
    add(saved_.after_input_gradient, purpose, settings_.recompute.swiglu ? gate_up : h);
    add(saved_.after_input_gradient, purpose, gate_up);  // its gradient
    if (experts) {
      // Token rows as they arrived, and the gradient of each pair's row.
      in_both(work_.expert_ranks > 1 ? Purpose::routed : Purpose::activations,
              double(work_.tokens) * work_.ranks_of_token * double(up.in) * kLess);
      add(saved_.after_input_gradient, purpose, rows * double(down.out) * kLess);
    } else if (!settings_.recompute.norms) {
      in_both(purpose, rows * double(up.in) * kLess);
    }
  }

  void attention(const std::vector<TaskOp>& products, const std::vector<TaskOp>& gradients) {
    const ModelSettings& model = settings_.model;
    const auto is_latent = [&](const GemmSize& g) {
      return g.in == model.q_lora_rank || g.in == model.kv_lora_rank;
    };
    // The last product's input is attention's output, which the first weight gradient reads.
    const GemmSize& last = products.back().cost.gemm;
    const double output = double(last.rows * last.in) * (2 - kE5M6Bytes);
    add(saved_.after_forward, Purpose::activations, output);
    std::set<int64_t> inputs;
    for (size_t i = 0; i + 1 < products.size(); ++i) {
      const GemmSize& g = products[i].cost.gemm;
      if (settings_.recompute.norms || !inputs.insert(g.in).second) continue;
      add(saved_.after_forward, Purpose::activations, double(g.rows * g.in) * kLess);
      if (!is_latent(g))
        add(saved_.after_input_gradient, Purpose::activations, double(g.rows * g.in) * kLess);
    }
    for (size_t i = 0; i < gradients.size(); ++i) {
      // Output gradients, and the inputs that backward has already made again: attention's output
      // and the latents.
      const GemmSize& g = gradients[i].cost.gemm;
      const double rows = double(g.rows), in = double(g.in);
      const double both = gradients[i].cost.bytes - 4 * double(g.groups * g.in * g.out);
      double less = both - rows * (in + double(g.out)) * kFp8Bytes;
      if (i == 0) less += output - rows * in * kLess;
      if (i > 0 && !is_latent(g)) less -= rows * in * kLess;
      add(saved_.after_input_gradient, Purpose::activations, less);
    }
  }

  const Kind kind_;
  const ModelWork& work_;
  const EngineSettings& settings_;
  Saved saved_;
};

void subtract(MemoryUse& from, const MemoryUse& less, int64_t sign) {
  for (size_t i = 0; i < from.bytes.size(); ++i) from.bytes[i] -= sign * less.bytes[i];
}

}  // namespace

void to_fp8(ModelWork& work, const EngineSettings& settings) {
  std::set<int> moe_layers;
  for (const auto& [key, phase] : work.phases)
    if (key.kind == Kind::experts) moe_layers.insert(key.layer);
  for (auto& [key, forward] : work.phases) {
    if (key.pass != Pass::forward) continue;
    const auto input = work.phases.find({key.kind, key.layer, Pass::input_gradient});
    const auto weight = work.phases.find({key.kind, key.layer, Pass::weight_gradient});
    if (input == work.phases.end() || weight == work.phases.end()) continue;
    const Saved saved = SavedBytes(key.kind, work, settings).of(forward.ops, weight->second.ops);
    for (MemoryUse* use : {&forward.left, &forward.peak}) subtract(*use, saved.after_forward, 1);
    for (MemoryUse* use : {&input->second.left, &input->second.peak}) {
      subtract(*use, saved.after_forward, -1);
      subtract(*use, saved.after_input_gradient, 1);
    }
    subtract(weight->second.left, saved.after_input_gradient, -1);
    if (weight->second.left.total() > weight->second.peak.total())
      weight->second.peak = weight->second.left;
  }
  for (auto& [key, phase] : work.phases)
    phase.ops = Converter(key, moe_layers.contains(key.layer), work).convert(phase.ops);
}

}  // namespace strait
