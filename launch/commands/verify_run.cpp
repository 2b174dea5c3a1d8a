#include "launch/commands/verify_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/thread_pool.h"
#include "launch/commands/verify_fp32.h"
#include "launch/commands/verify_routes.h"
#include "launch/commands/verify_tensors.h"
#include "launch/commands/verify_windows.h"
#include "launch/engine/engine_settings.h"
#include "launch/plan/stage_cut.h"
#include "launch/trainer/agree.h"
#include "optim/learning_rate.h"
#include "parallel/comm/exchange.h"
#include "parallel/shard/layout.h"
#include "recipes/check.h"
#include "recipes/formats.h"

namespace strait {
namespace {

constexpr StateKind kMaster[] = {StateKind::master};
constexpr StateKind kGradient[] = {StateKind::gradient};

enum GateIndex {
  kRoutes,
  kRouterLogits,
  kExpertSums,
  kLoss,
  kGradients,
  kUpdate,
  kBias,
  kTwice,
  kFp32
};

// `narrow`: BF16 somewhere; `rounds_sums`: expert sums travel, and in BF16. In FP8 a difference of
// BF16's size may move an element to the next code, up to an eighth away, and the tiles of 128
// tokens hold other tokens in other layouts: a gradient may be another one as good.
std::vector<Gate> gates_of(bool narrow, bool rounds_sums, bool fp8) {
  const auto by = [narrow](double wide_limit, double narrow_limit) {
    return narrow ? narrow_limit : wide_limit;
  };
  std::vector<Gate> gates = {
      {.name = "routes", .unit = "choices that the router's logits do not explain", .limit = 0},
      {.name = "router logits",
       .unit = "largest difference / largest of the token",
       .limit = fp8 ? 0.25 : by(1e-5, 5e-2)},
      {.name = "expert sums",
       .unit = "tokens with other bits",
       .limit = rounds_sums ? Gate::kShown : 0},
      {.name = "loss", .unit = "relative", .limit = by(1e-6, 1e-3)},
      {.name = "gradients", .unit = "relative L2", .limit = fp8 ? Gate::kShown : by(1e-5, 2e-2)},
      {.name = "update", .unit = "relative L2", .limit = by(1e-2, Gate::kShown)},
      {.name = "selection bias", .unit = "experts with another one after the update", .limit = 0},
      {.name = "same layout twice", .unit = "shard pieces with other bits", .limit = 0}};
  if (fp8)
    gates.push_back(
        {.name = "FP32 gradients", .unit = "distance from them / one rank's", .limit = 1.1});
  return gates;
}

double relative(double got, double wanted) {
  return got == wanted ? 0 : std::fabs(got - wanted) / std::fabs(wanted);
}

// What a piece of this rank's state holds, in short.
struct Mark {
  std::string piece;
  uint64_t hash;
};

std::vector<Mark> marks_of(Engine& layout) {
  std::vector<StatePiece> pieces = pieces_of(layout.buckets(), kOptimizerState);
  std::ranges::move(bias_pieces(layout.model(), layout.selection_bias()),
                    std::back_inserter(pieces));
  std::vector<Mark> marks;
  marks.reserve(pieces.size());
  for (const StatePiece& piece : pieces)
    marks.push_back({fmt::format("{} of {}", name_of(piece.kind), piece.name), hash_of(piece)});
  return marks;
}

class Verifier {
 public:
  Verifier(const Recipe& recipe, const VerifyPlan& plan, Comm& comm);
  VerifyReport run();

 private:
  std::unique_ptr<Engine> new_layout();
  std::unique_ptr<Engine> new_reference();
  std::vector<int32_t> windows_of(int64_t step) const;  // of the whole batch, on all ranks
  std::vector<int32_t> my_part(const std::vector<int32_t>& windows) const;
  double rate(int64_t step) const;
  void tamper(VerifyMoment moment, int64_t step, Engine& layout) const;

  void compare_steps();
  void load_state(int64_t step);
  void layout_step(int64_t step, const std::vector<int32_t>& windows);
  void reference_step(int64_t step, const std::vector<int32_t>& windows);
  void compare_tensors(Gate& gate, const WholeTensors& got, StateKind kind,
                       const WholeTensors* before, int64_t step);
  void compare_biases(int64_t step);

  std::vector<Mark> run_freely(int64_t steps, bool second);
  void compare_runs();

  Gate& gate(GateIndex index) { return report_.gates[static_cast<size_t>(index)]; }

  const Recipe& recipe_;
  const VerifyPlan& plan_;
  Comm& comm_;
  const bool first_;
  const Channel channel_;
  Mesh mesh_{1, 1, 1};
  EngineSettings settings_, reference_settings_;
  std::unique_ptr<VerifyWindows> windows_;  // rank 0
  VerifyReport report_;

  std::unique_ptr<Engine> layout_, reference_;  // reference_: rank 0
  std::unique_ptr<Fp32Gradients> exact_;        // rank 0, in FP8
  std::unique_ptr<RouteRecord> record_;
  std::unique_ptr<RouteReplay> replay_;
  Layout holders_;
  // Rank 0: the layout's gradients, its masters after the update and those before it.
  WholeTensors gradients_, after_, before_;
  StepTotals totals_;
  std::vector<std::string> biases_;  // of every rank, as bytes
};

Verifier::Verifier(const Recipe& recipe, const VerifyPlan& plan, Comm& comm)
    : recipe_(recipe),
      plan_(plan),
      comm_(comm),
      first_(comm.rank().value == 0),
      channel_(comm.channel(LinkLane::host, comm.world())) {
  together(comm_, [&] {
    check_layout(recipe_, comm_.size());
    mesh_ = mesh_of(recipe_, comm_);
    settings_ = training_settings(recipe_, mesh_, threads_of_rank(recipe_, comm_));
    const int threads = recipe_.train.threads > 0 ? static_cast<int>(recipe_.train.threads)
                                                  : default_num_threads(1);
    reference_settings_ = engine_settings(recipe_, Mesh(1, 1, 1), threads);
    if (first_) windows_ = std::make_unique<VerifyWindows>(recipe_);
  });
  const bool narrow_wire = settings_.combine_wire == DType::bf16;
  report_ = {.recipe = recipe_.run.name,
             .precision = recipe_.train.precision,
             .combine_wire = settings_.fp8_sums ? "fp8"
                             : narrow_wire      ? "bf16"
                                                : "fp32",
             .data = first_ ? windows_->source() : "",
             .schedule = recipe_.parallel.schedule,
             .ranks = comm_.size(),
             .pipeline = recipe_.parallel.pipeline,
             .expert = recipe_.parallel.expert,
             .pairs = recipe_.parallel.pairs,
             .steps = plan_.steps,
             .sequences = recipe_.train.global_batch,
             .sequence_length = recipe_.train.sequence_length,
             .gates = gates_of(settings_.formats.compute == DType::bf16 || narrow_wire,
                               narrow_wire && recipe_.parallel.expert > 1, uses_fp8(recipe_)),
             .free_run = {}};
}

std::unique_ptr<Engine> Verifier::new_layout() {
  std::unique_ptr<Engine> engine;
  together(comm_, [&] {
    engine = std::make_unique<Engine>(settings_, mesh_, comm_.rank(), &comm_, Device::cpu);
  });
  return engine;
}

std::unique_ptr<Engine> Verifier::new_reference() {
  std::unique_ptr<Engine> engine;
  together(comm_, [&] {
    if (!first_) return;
    engine =
        std::make_unique<Engine>(reference_settings_, Mesh(1, 1, 1), Rank{0}, nullptr, Device::cpu);
    engine->initialise(static_cast<uint64_t>(recipe_.train.seed));
  });
  return engine;
}

std::vector<int32_t> Verifier::windows_of(int64_t step) const {
  std::vector<int32_t> windows;
  together(comm_, [&] {
    if (first_) windows = windows_->of_step(step);
  });
  windows.resize(
      static_cast<size_t>(recipe_.train.global_batch * (recipe_.train.sequence_length + 1 +
                                                        recipe_.model.num_nextn_predict_layers)));
  if (comm_.size() > 1)
    channel_.enqueue(broadcast(channel_, 0, std::as_writable_bytes(std::span(windows)))).wait();
  return windows;
}

std::vector<int32_t> Verifier::my_part(const std::vector<int32_t>& windows) const {
  const auto part = static_cast<std::ptrdiff_t>(windows.size()) / mesh_.data_size();
  const auto begin = windows.begin() + mesh_.data(comm_.rank()).self() * part;
  return {begin, begin + part};
}

double Verifier::rate(int64_t step) const {
  return learning_rate(recipe_.schedule, std::min(step + 1, recipe_.train.steps),
                       recipe_.train.steps);
}

void Verifier::tamper(VerifyMoment moment, int64_t step, Engine& layout) const {
  if (plan_.tamper) plan_.tamper(moment, step, layout, comm_.rank());
}

VerifyReport Verifier::run() {
  compare_steps();
  compare_runs();
  const std::string passed = from_rank_zero(comm_, report_.passed() ? "yes" : "no");
  if (!first_ && passed == "no") report_.gates[kRoutes].count("reported by rank 0");
  return std::move(report_);
}

void Verifier::compare_steps() {
  layout_ = new_layout();
  reference_ = new_reference();
  record_ = std::make_unique<RouteRecord>(*layout_, settings_, comm_.rank());
  record_->watch(*layout_);
  if (first_) {
    replay_ = std::make_unique<RouteReplay>(
        *reference_, reference_settings_,
        RouteGates{&gate(kRoutes), &gate(kRouterLogits), &gate(kExpertSums), &report_.choices,
                   &report_.flips});
    const auto masters = pieces_of(reference_->buckets(), kMaster);
    gradients_ = after_ = before_ = WholeTensors(masters);
    if (uses_fp8(recipe_)) exact_ = std::make_unique<Fp32Gradients>(reference_settings_);
  }
  holders_ = Layout::gather(channel_, pieces_of(layout_->buckets(), kOptimizerState));
  holders_.require_complete(state_tensors(recipe_.model, kOptimizerState));
  for (int64_t step = 0; step < plan_.steps; ++step) {
    load_state(step);
    const std::vector<int32_t> windows = windows_of(step);
    layout_step(step, windows);
    together(comm_, [&] {
      if (first_) reference_step(step, windows);
    });
  }
  replay_.reset();
  record_.reset();
  layout_.reset();
  reference_.reset();
  exact_.reset();
  gradients_ = after_ = before_ = {};
}

void Verifier::load_state(int64_t step) {
  std::vector<StatePiece> from, to = pieces_of(layout_->buckets(), kOptimizerState);
  std::ranges::move(bias_pieces(layout_->model(), layout_->selection_bias()),
                    std::back_inserter(to));
  if (first_) {
    from = pieces_of(reference_->buckets(), kOptimizerState);
    std::ranges::move(bias_pieces(reference_->model(), reference_->selection_bias()),
                      std::back_inserter(from));
  }
  reshard(channel_, from, to);
  layout_->set_committed_steps(step);
  layout_->load_weights();
  tamper(VerifyMoment::loaded, step, *layout_);
}

void Verifier::layout_step(int64_t step, const std::vector<int32_t>& windows) {
  layout_->run_step(my_part(windows), 0);
  tamper(VerifyMoment::summed, step, *layout_);
  reshard(channel_, pieces_of(layout_->buckets(), kGradient),
          gradients_.pieces(StateKind::gradient));
  totals_ = *layout_->settle(rate(step));
  reshard(channel_, pieces_of(layout_->buckets(), kMaster), after_.pieces(StateKind::master));
  const std::vector<float>& bias = layout_->selection_bias();
  const std::string bytes(reinterpret_cast<const char*>(bias.data()), bias.size() * sizeof(float));
  if (comm_.size() > 1) {
    channel_.enqueue(gather_strings(channel_, 0, bytes, &biases_)).wait();
  } else {
    biases_ = {bytes};
  }
  std::vector<RouteRecord> records = record_->gather(channel_);
  if (!first_) return;
  std::vector<RouteRecord> ordered;
  for (int column = 0; column < mesh_.data_size(); ++column) {
    RouteRecord& record = ordered.emplace_back(std::move(records[static_cast<size_t>(column)]));
    for (int rank = column + mesh_.data_size(); rank < mesh_.size(); rank += mesh_.data_size())
      record.add(records[static_cast<size_t>(rank)]);
  }
  replay_->expect(std::move(ordered), settings_.num_microbatches, step + 1);
}

void Verifier::reference_step(int64_t step, const std::vector<int32_t>& windows) {
  before_.copy_from(pieces_of(reference_->buckets(), kMaster));
  if (exact_) exact_->run(*reference_, step, windows);
  reference_->run_step(windows, 0);
  if (exact_)
    gate(kFp32).see(exact_->distance_ratio(gradients_, pieces_of(reference_->buckets(), kGradient)),
                    fmt::format("step {}", step + 1));
  compare_tensors(gate(kGradients), gradients_, StateKind::gradient, nullptr, step);
  const StepTotals totals = *reference_->settle(rate(step));
  compare_tensors(gate(kUpdate), after_, StateKind::master, &before_, step);
  gate(kLoss).see(relative(totals_.loss(), totals.loss()),
                  fmt::format("main model, step {}", step + 1));
  if (totals.mtp_targets > 0)
    gate(kLoss).see(relative(totals_.mtp_loss(), totals.mtp_loss()),
                    fmt::format("MTP module, step {}", step + 1));
  compare_biases(step);
}

void Verifier::compare_tensors(Gate& gate, const WholeTensors& got, StateKind kind,
                               const WholeTensors* before, int64_t step) {
  const TensorPlace place{&holders_, recipe_.model.num_hidden_layers, step + 1};
  for (const StatePiece& piece : pieces_of(reference_->buckets(), {&kind, 1})) {
    const std::span<const float> wanted(reinterpret_cast<const float*>(piece.values),
                                        static_cast<size_t>(piece.count));
    const Distance result = distance(got.of(piece.name), wanted,
                                     before ? before->of(piece.name) : std::span<const float>{});
    gate.seen = true;
    if (gate.is_worse(result.relative))
      gate.see(result.relative, place.of(piece.name, result.worst_element));
  }
}

void Verifier::compare_biases(int64_t step) {
  const std::vector<float>& wanted = reference_->selection_bias();
  if (wanted.empty()) return;
  gate(kBias).seen = true;
  const Model& model = reference_->model();
  const auto experts = model.settings.n_routed_experts;
  for (size_t rank = 0; rank < biases_.size(); ++rank) {
    std::vector<float> got(wanted.size());
    std::memcpy(got.data(), biases_[rank].data(), biases_[rank].size());
    for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
      const int row = model.layers[static_cast<size_t>(layer)].moe_index;
      for (int64_t expert = 0; row >= 0 && expert < experts; ++expert) {
        const auto at = static_cast<size_t>(row * experts + expert);
        if (got[at] != wanted[at])
          gate(kBias).count(
              fmt::format("layer {}, expert {}, rank {}, step {}", layer, expert, rank, step + 1));
      }
    }
  }
}

std::vector<Mark> Verifier::run_freely(int64_t steps, bool second) {
  const auto layout = new_layout();
  layout->initialise(static_cast<uint64_t>(recipe_.train.seed));
  const auto reference = second || plan_.free_steps == 0 ? nullptr : new_reference();
  std::vector<double> losses, reference_losses;
  std::vector<Mark> marks;
  for (int64_t step = 0; step < steps; ++step) {
    const std::vector<int32_t> windows = windows_of(step);
    const double last_rate = step > 0 ? rate(step - 1) : 0;
    if (const auto totals = layout->run_step(my_part(windows), last_rate))
      losses.push_back(totals->loss());
    const bool marked = step + 1 == plan_.steps, settles = marked || step + 1 == steps;
    if (settles) losses.push_back(layout->settle(rate(step))->loss());
    if (marked && second) tamper(VerifyMoment::repeated, step, *layout);
    if (marked) marks = marks_of(*layout);
    together(comm_, [&] {
      if (!reference) return;
      if (const auto totals = reference->run_step(windows, last_rate))
        reference_losses.push_back(totals->loss());
      if (settles) reference_losses.push_back(reference->settle(rate(step))->loss());
    });
  }
  for (size_t step = 0;
       step < reference_losses.size() && static_cast<int64_t>(step) < plan_.free_steps; ++step)
    report_.free_run.push_back(
        {static_cast<int64_t>(step) + 1, losses[step], reference_losses[step]});
  return marks;
}

void Verifier::compare_runs() {
  const std::vector<Mark> once = run_freely(std::max(plan_.steps, plan_.free_steps), false);
  const std::vector<Mark> twice = run_freely(plan_.steps, true);
  std::string mine;  // a line for each piece that differs
  for (size_t i = 0; i < once.size(); ++i)
    if (once[i].hash != twice[i].hash)
      mine += fmt::format("{}, rank {}\n", once[i].piece, comm_.rank().value);
  std::vector<std::string> all = {mine};
  if (comm_.size() > 1) channel_.enqueue(gather_strings(channel_, 0, mine, &all)).wait();
  if (!first_) return;
  gate(kTwice).seen = true;
  for (const std::string& lines : all)
    for (size_t begin = 0, end; (end = lines.find('\n', begin)) != std::string::npos;
         begin = end + 1)
      gate(kTwice).count(lines.substr(begin, end - begin));
}

}  // namespace

VerifyReport verify(const Recipe& recipe, const VerifyPlan& plan, Comm& comm) {
  return Verifier(recipe, plan, comm).run();
}

}  // namespace strait
