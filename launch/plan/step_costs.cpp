#include "launch/plan/step_costs.h"

#include <algorithm>
#include <optional>

#include "core/ops/quantize.h"
#include "launch/plan/fp8_work.h"
#include "parallel/expert/expected_route.h"

namespace strait {
namespace {

int64_t num_dense_layers(const ModelSettings& model) {
  return model.n_routed_experts > 0 ? model.first_k_dense_replace : model.num_hidden_layers;
}

// At most one layer of each kind.
ModelSettings reduced(ModelSettings model) {
  const int64_t dense = num_dense_layers(model);
  const int64_t moe = model.num_hidden_layers - dense;
  model.first_k_dense_replace = std::min<int64_t>(dense, 1);
  model.num_hidden_layers = model.first_k_dense_replace + std::min<int64_t>(moe, 1);
  return model;
}

std::vector<int> like_layers(const ModelSettings& model) {
  const ModelSettings small = reduced(model);
  std::vector<int> like;
  for (int64_t layer = 0; layer < model.num_hidden_layers; ++layer)
    like.push_back(layer < num_dense_layers(model) ? 0
                                                   : static_cast<int>(small.num_hidden_layers) - 1);
  if (model.num_nextn_predict_layers > 0) like.push_back(static_cast<int>(small.num_hidden_layers));
  return like;
}

MemoryUse plus(MemoryUse a, const MemoryUse& b, int64_t sign = 1) {
  for (size_t i = 0; i < a.bytes.size(); ++i) a.bytes[i] += sign * b.bytes[i];
  return a;
}

// Cuts what an Engine does into phases: an op or a change of memory belongs to the phase that began
// last.
class Recorder {
 public:
  explicit Recorder(Engine& engine) : engine_(engine) {
    engine.ctx().record_ops(&ops_);
    engine.watch_tasks([this](const Task& task) {
      // Buffers that combine receives in belong to the layer's end, those of dispatch to the task
      // that packed its rows.
      if (task.kind == Kind::combine) begin(PhaseKey{task.kind, task.layer, task.pass});
      if (task.lane != Lane::compute) return;
      if (task.microbatch != microbatch_) {
        begin(std::nullopt);
        phases_.clear();  // the last micro-batch is in a steady state
      }
      microbatch_ = task.microbatch;
      task_ = PhaseKey{task.kind, task.layer, task.pass};
      begin(task.microbatch < 0 ? std::nullopt : std::optional(task_));
    });
    engine.watch_layer_ends([this](int layer, Pass pass, bool starts) {
      begin(starts ? PhaseKey{Kind::combine, layer, pass} : task_);
    });
  }
  ~Recorder() {
    engine_.ctx().record_ops(nullptr);
    engine_.watch_tasks({});
    engine_.watch_layer_ends({});
  }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  std::map<PhaseKey, PhaseWork> finish() {
    begin(std::nullopt);
    return std::move(phases_);
  }

 private:
  void begin(std::optional<PhaseKey> next) {
    Memory& memory = engine_.ctx().memory();
    if (phase_) {
      PhaseWork& work = phases_[*phase_];
      for (const Cost& cost : ops_)
        work.ops.push_back({cost, cost.operands == DType::f32 ? Precision::fp32 : Precision::bf16});
      const MemoryUse peak = plus(plus(memory.at_peak(), before_, -1), work.left);
      if (peak.total() > work.peak.total()) work.peak = peak;
      work.left = plus(work.left, plus(memory.live(), before_, -1));
    }
    ops_.clear();
    phase_ = next;
    before_ = memory.live();
    memory.reset_peaks();
  }

  Engine& engine_;
  std::vector<Cost> ops_;
  std::map<PhaseKey, PhaseWork> phases_;
  std::optional<PhaseKey> phase_;
  PhaseKey task_;
  int microbatch_ = -1;
  MemoryUse before_;
};

// `ranks_per_node` of an expert group, or more.
std::map<PhaseKey, PhaseWork> run_phases(EngineSettings settings, int64_t expert,
                                         int64_t ranks_per_node) {
  settings.model = reduced(settings.model);
  settings.num_microbatches = 2;
  settings.num_threads = 1;
  settings.schedule = "1f1b";
  settings.chunks = 0;
  settings.pairs = false;
  settings.stages = {};
  settings.fewer = {};
  const int ranks = static_cast<int>(expert);
  std::vector<std::string> hosts;
  for (int64_t rank = 0; rank < expert; ++rank)
    hosts.push_back(std::to_string(rank / ranks_per_node));
  Engine engine(settings, Mesh(ranks, 1, ranks, hosts), Rank{0}, nullptr, Device::meta);
  engine.initialise(0);
  Recorder recorder(engine);
  engine.run_step({}, 0);
  return recorder.finish();
}

}  // namespace

std::map<std::pair<Kind, Pass>, ExchangeBytes> exchange_bytes(const EngineSettings& settings,
                                                              bool fp8_dispatch) {
  const int64_t hidden = settings.model.hidden_size;
  const auto row = [&](bool fp8, DType otherwise) {
    return static_cast<double>(fp8 ? fp8_wire_words(hidden) * 4
                                   : hidden * static_cast<int64_t>(size_of(otherwise)));
  };
  const DType back = settings.combine_wire;
  return {{{Kind::dispatch, Pass::forward}, {row(fp8_dispatch, settings.formats.compute) + 4, 8}},
          {{Kind::combine, Pass::forward}, {row(settings.fp8_sums, back), 0}},
          {{Kind::combine, Pass::input_gradient}, {row(fp8_dispatch, back), 0}},
          {{Kind::dispatch, Pass::input_gradient}, {row(false, back), 4}}};
}

ModelWork measure_step(const StepCostSettings& settings) {
  const EngineSettings& engine = settings.engine;
  const ModelSettings& model = engine.model;
  STRAIT_CHECK((settings.precision == Precision::fp32) == (engine.formats.compute == DType::f32),
               "the engine computes in BF16 for precisions bf16 and fp8");
  const bool fp8 = settings.precision == Precision::fp8;
  ModelWork work;
  work.precision = settings.precision;
  work.tokens = engine.micro_batch * engine.sequence_length;
  work.top_k = model.num_experts_per_tok;
  work.hidden_size = model.hidden_size;
  work.moments_bytes = static_cast<int64_t>(size_of(engine.optimizer.moments()));
  EngineSettings measured = engine;
  measured.exchange = settings.two_tier ? "two_tier" : "flat";
  std::map<PhaseKey, PhaseWork> in_fp8;
  if (fp8) in_fp8 = run_phases(measured, settings.expert, settings.ranks_per_node);
  measured.formats = engine.formats.compute;
  measured.recompute.compact = measured.fp8_dispatch = false;
  work.phases = run_phases(measured, settings.expert, settings.ranks_per_node);
  work.num_hidden_layers = static_cast<int>(model.num_hidden_layers);
  work.like = like_layers(model);
  work.expert_ranks = settings.expert;
  work.expert_nodes = std::max<int64_t>(1, settings.expert / settings.ranks_per_node);
  if (model.n_routed_experts > 0) {
    const RouteSettings route = route_settings(model);
    const auto parts_of_token = [&](int64_t parts) {
      return expected_parts(route, model.n_routed_experts, parts * settings.waves);
    };
    work.ranks_of_token = parts_of_token(work.expert_ranks);
    work.nodes_of_token = parts_of_token(work.expert_nodes);
  }
  work.two_tier = settings.two_tier;
  work.exchange_chunks = engine.exchange_chunks;
  work.exchanges = exchange_bytes(engine, fp8 && engine.fp8_dispatch);
  // The residual stream goes from stage to stage as it is (launch/engine).
  work.message_row_bytes =
      static_cast<double>(model.hidden_size) * static_cast<double>(size_of(kHiddenDType));
  if (fp8) {
    ops_to_fp8(work, engine);
    for (const auto& [key, phase] : in_fp8)
      work.phases[key].left = phase.left, work.phases[key].peak = phase.peak;
  }
  return work;
}

int64_t head_chunk_tokens(const Cluster& cluster) {
  int64_t tokens = 512;
  while (double(tokens) * 2 / cluster.bf16_peak < 8 / cluster.memory_bandwidth) tokens *= 2;
  return tokens;
}

ModelCosts model_flops(EngineSettings settings) {
  settings.recompute = {.norms = false, .mla_up = false, .swiglu = false};
  settings.micro_batch = 1;
  const ModelSettings& model = settings.model;
  const std::map<PhaseKey, PhaseWork> phases = run_phases(settings, 1, 1);
  const int mtp = static_cast<int>(reduced(model).num_hidden_layers);
  ModelCosts costs{.num_hidden_layers = static_cast<int>(model.num_hidden_layers)};
  std::map<int, double> of_layer;  // of those measured
  for (const auto& [key, work] : phases)
    for (const TaskOp& op : work.ops) {
      if (op.cost.op_class == OpClass::other || op.cost.op_class == OpClass::permute) continue;
      double& sum = key.kind != Kind::head ? key.layer < 0 ? costs.embedding : of_layer[key.layer]
                    : key.layer == mtp ? costs.mtp_head
                                           : costs.head;
      sum += op.cost.flops;
    }
  for (const int like : like_layers(model)) costs.layers.push_back(of_layer[like]);
  return costs;
}

TokenFlops flops_per_token(const EngineSettings& settings) {
  const ModelCosts costs = model_flops(settings);
  TokenFlops flops{.main = costs.embedding + costs.head, .mtp = costs.mtp_head};
  for (size_t layer = 0; layer < costs.layers.size(); ++layer)
    (static_cast<int>(layer) < costs.num_hidden_layers ? flops.main : flops.mtp) +=
        costs.layers[layer];
  flops.main /= static_cast<double>(settings.sequence_length);
  flops.mtp /= static_cast<double>(settings.sequence_length);
  return flops;
}

}  // namespace strait
