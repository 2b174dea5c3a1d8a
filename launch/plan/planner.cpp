#include "launch/plan/planner.h"

#include <algorithm>
#include <utility>

#include "core/errors.h"
#include "launch/engine/engine_settings.h"
#include "launch/plan/step_buckets.h"
#include "launch/plan/step_memory.h"
#include "parallel/pipeline/pairing.h"
#include "parallel/pipeline/schedule_file.h"
#include "parallel/program/validate.h"
#include "parallel/sim/imbalance.h"
#include "recipes/check.h"

namespace strait {
namespace {

// What stays free of tables; an assumption of the order of a CUDA context and NCCL's buffers on 80
// GB.
constexpr double kUsableShare = 0.94;

// Micro-batches: a multiple of the positions, twice of it long enough for every schedule's steady
// state.
int64_t unit_of(const PlanLayout& layout) { return std::max<int64_t>(4, layout.pipeline); }

Precision precision_of(const Recipe& recipe) {
  const std::string& name = recipe.train.precision;
  return name == "fp32" ? Precision::fp32 : name == "fp8" ? Precision::fp8 : Precision::bf16;
}

double ops_seconds(const Cluster& cluster, const PhaseWork& phase) {
  double seconds = 0;
  for (const TaskOp& op : phase.ops) seconds += op_seconds(cluster, op);
  return seconds;
}

// Compute of one micro-batch in a phase's forward and backward.
double kind_seconds(const Cluster& cluster, const ModelWork& work, Kind kind, int layer) {
  double seconds = 0;
  for (const Pass pass : {Pass::forward, Pass::input_gradient, Pass::weight_gradient})
    seconds += ops_seconds(cluster, work.phase(kind, layer, pass));
  return seconds;
}

MemoryUse fullest_memory(const ModelWork& work, std::span<const Program> programs, int& fullest) {
  MemoryUse most;
  for (const Program& program : programs) {
    const MemoryUse use = peak_memory(work, program);
    if (use.total() <= most.total()) continue;
    most = use;
    fullest = program.position;
  }
  return most;
}

LaneAccount mean_account(std::span<const Program> programs, const Simulation& simulation) {
  LaneAccount mean;
  const double share = 1 / static_cast<double>(programs.size());
  for (size_t p = 0; p < programs.size(); ++p) {
    const LaneAccount one = account(programs[p], simulation.times[p], simulation.makespan);
    mean.compute_seconds += share * one.compute_seconds;
    mean.transfer_seconds += share * one.transfer_seconds;
    mean.hidden_seconds += share * one.hidden_seconds;
    mean.exposed_seconds += share * one.exposed_seconds;
    mean.idle_seconds += share * one.idle_seconds;
  }
  return mean;
}

}  // namespace

// A layout with everything but its tasks.
struct Planner::Frame {
  Schedule schedule;
  std::vector<StageLayers> stages;
  StepBuckets buckets;
};

Planner::Planner(Recipe recipe, Cluster cluster, PlanSettings settings)
    : recipe_(std::move(recipe)),
      cluster_(std::move(cluster)),
      settings_(std::move(settings)),
      ranks_(settings_.ranks > 0 ? settings_.ranks : cluster_.ranks()),
      precision_(settings_.precision.value_or(precision_of(recipe_))) {
  recipe_.train.precision = name_of(precision_);
  if (precision_ == Precision::fp8 && cluster_.fp8_peak == 0)
    throw RecipeError("cluster '" + cluster_.name + "' has no FP8; plan with --precision bf16");
  model_flops_per_token_ = flops_per_token(engine_settings(recipe_, Mesh(1, 1, 1), 1)).main;
}

int64_t Planner::usable_memory() const {
  return static_cast<int64_t>(kUsableShare * cluster_.memory);
}

const ModelWork& Planner::phases_of(const PlanLayout& layout) {
  const std::array key{layout.expert, layout.micro_batch, layout.waves};
  const auto found = phases_.find(key);
  if (found != phases_.end()) return found->second;
  const Recipe recipe = with_layout(recipe_, layout);
  const Mesh mesh(static_cast<int>(ranks_), static_cast<int>(layout.pipeline),
                  static_cast<int>(layout.expert));
  EngineSettings engine = engine_settings(recipe, mesh, 1);
  engine.head_chunk_tokens = head_chunk_tokens(cluster_);
  return phases_
      .emplace(key, measure_step({.engine = engine,
                                  .precision = precision_,
                                  .expert = layout.expert,
                                  .ranks_per_node = cluster_.ranks_per_node,
                                  .waves = layout.waves,
                                  .two_tier = is_two_tier(recipe_.parallel.exchange, layout.expert,
                                                          cluster_.ranks_per_node)}))
      .first->second;
}

std::vector<double> Planner::layer_seconds(const ModelWork& work) const {
  std::map<int, double> of_kind;
  std::vector<double> seconds;
  for (const int like : work.like) {
    const auto [found, is_new] = of_kind.try_emplace(like, 0.0);
    if (is_new)
      for (const Kind kind :
           {Kind::attention, Kind::mlp, Kind::shared, Kind::experts, Kind::combine})
        found->second += kind_seconds(cluster_, work, kind, like);
    seconds.push_back(found->second);
  }
  return seconds;
}

// Of the last hidden layer, which stands for all: compute and exchanges one after another, or, in a
// pair, under each other.
SlotCosts Planner::slot_costs(const ModelWork& work) const {
  const int layer = work.num_hidden_layers - 1;
  double compute[3] = {}, exchanges[2] = {};
  for (const Pass pass : {Pass::forward, Pass::input_gradient, Pass::weight_gradient})
    for (const Kind kind : {Kind::attention, Kind::mlp, Kind::shared, Kind::experts, Kind::combine})
      compute[static_cast<size_t>(pass)] += ops_seconds(cluster_, work.phase(kind, layer, pass));
  if (work.expert_ranks > 1 && work.is_moe(layer))
    for (const Pass pass : {Pass::forward, Pass::input_gradient})
      for (const Kind kind : {Kind::dispatch, Kind::combine})
        exchanges[static_cast<size_t>(pass)] += exchange_cost(cluster_, work, kind, pass).seconds;
  const double backward = compute[1] + compute[2];
  return {.forward = compute[0] + exchanges[0],
          .backward = backward + exchanges[1],
          .weight = compute[2],
          .pair = std::max(compute[0] + backward, exchanges[0] + exchanges[1])};
}

Planner::Frame Planner::frame(const PlanLayout& layout, int64_t num_microbatches, CutBy cut) {
  Frame frame;
  frame.schedule =
      find_schedule(layout.schedule, {.positions = static_cast<int>(layout.pipeline),
                                      .microbatches = static_cast<int>(num_microbatches),
                                      .chunks = static_cast<int>(layout.chunks),
                                      .positions_key = "parallel.pipeline",
                                      .microbatches_key = "micro-batches",
                                      .chunks_key = "parallel.chunks"});
  const ModelWork& work = phases_of(layout);
  if (layout.pairs)
    frame.schedule = pair_schedule(frame.schedule, {.costs = slot_costs(work)}).schedule;
  double head = kind_seconds(cluster_, work, Kind::head, work.num_hidden_layers - 1);
  if (static_cast<int>(work.like.size()) > work.num_hidden_layers)
    head += kind_seconds(cluster_, work, Kind::head, work.num_hidden_layers);
  frame.stages = cut_model({.layers = layer_seconds(work),
                            .embedding = kind_seconds(cluster_, work, Kind::embed, -1),
                            .head = head,
                            .num_hidden_layers = work.num_hidden_layers},
                           frame.schedule, cut);
  frame.buckets = step_buckets({.model = recipe_.model,
                                .precision = precision_,
                                .data = ranks_ / layout.pipeline,
                                .expert = layout.expert,
                                .ranks_per_node = cluster_.ranks_per_node,
                                .packs_weights = cluster_.cores <= 1},
                               frame.schedule, frame.stages);
  return frame;
}

// Two units of micro-batches, or all there are; of the better cut: what fits, then what is faster.
const PlannedStep& Planner::short_step(const PlanLayout& layout) {
  if (short_step_ && short_step_->layout == layout) return *short_step_;
  const int64_t all = num_microbatches(with_layout(recipe_, layout), ranks_);
  const int64_t few = is_file_schedule(layout.schedule) ? all : std::min(all, 2 * unit_of(layout));
  const auto [cut, is_new] = cuts_.try_emplace(to_string(layout), CutBy::even_compute);
  short_step_ = build(layout, few, cut->second);
  if (!is_new || places_of(short_step_->schedule) == StagePlaces::apart) return *short_step_;
  PlannedStep layers = build(layout, few, CutBy::even_layers);
  const auto value = [this](const PlannedStep& step) {
    return std::pair(step.figures.memory.total() > usable_memory(), step.figures.seconds);
  };
  if (value(layers) < value(*short_step_)) {
    cut->second = CutBy::even_layers;
    short_step_ = std::move(layers);
  }
  return *short_step_;
}

PlannedStep Planner::build(const PlanLayout& layout, int64_t num_microbatches) {
  const PlannedStep& few = short_step(layout);
  if (few.num_microbatches == num_microbatches) return few;
  return build(layout, num_microbatches, cuts_.at(to_string(layout)));
}

MemoryUse Planner::memory(const PlanLayout& layout) {
  check_plan_layout(with_layout(recipe_, layout), ranks_);
  return short_step(layout).figures.memory;
}

PlannedStep Planner::build(const PlanLayout& layout, int64_t num_microbatches, CutBy cut) {
  Frame frame = this->frame(layout, num_microbatches, cut);
  PlannedStep step;
  step.layout = layout;
  step.ranks = ranks_;
  step.num_microbatches = num_microbatches;
  step.work = phases_of(layout);
  step.work.stages = frame.stages;
  step.work.stages_share_node = ranks_ / layout.pipeline < cluster_.ranks_per_node;
  step.work.buckets = std::move(frame.buckets.work);
  StepShape& shape = step.shape;
  for (size_t layer = 0; layer < step.work.like.size(); ++layer)
    shape.layer_is_moe.push_back(step.work.is_moe(static_cast<int>(layer)));
  shape.num_hidden_layers = step.work.num_hidden_layers;
  shape.has_shared_experts = recipe_.model.n_shared_experts > 0;
  shape.stages = std::move(frame.stages);
  shape.buckets = std::move(frame.buckets.shapes);
  shape.exchange_lane = step.work.expert_nodes > 1 ? Lane::far : Lane::near;
  shape.exchanges = layout.expert > 1;
  shape.microbatch_rows = step.work.tokens;
  shape.exchange_capacity_rows = step.work.tokens * layout.expert;
  shape.waves = static_cast<int>(layout.waves);
  step.schedule = std::move(frame.schedule);
  step.programs = lower_step(shape, step.schedule, true);
  step.costs = costs_on(cluster_, step.work, step.programs);
  step.simulation = simulate(step.programs, step.costs, shared_cores(cluster_, layout));

  StepFigures& figures = step.figures;
  figures.seconds = step.simulation.makespan;
  figures.account = mean_account(step.programs, step.simulation);
  figures.memory = fullest_memory(step.work, step.programs, figures.fullest);
  const double share = 1 / static_cast<double>(step.programs.size());
  for (const auto& costs : step.costs) {
    for (const TaskCost& cost : costs) {
      figures.far_bytes += share * cost.bytes_far;
      figures.near_bytes += share * cost.bytes_near;
    }
  }
  return step;
}

std::vector<std::vector<TaskCost>> Planner::costs_on(const Cluster& cluster, const ModelWork& work,
                                                     std::span<const Program> programs) const {
  std::vector<std::vector<TaskCost>> costs = price_programs(cluster, work, programs);
  if (!settings_.times) return costs;
  for (size_t p = 0; p < programs.size(); ++p)
    for (size_t i = 0; i < costs[p].size(); ++i) {
      const Task& task = programs[p].tasks[i];
      if (task.lane != Lane::compute || task.microbatch < 0) continue;
      if (const auto measured = cost_of(*settings_.times, task, {.by_layer = true}))
        costs[p][i] = *measured;
    }
  return costs;
}

SharedCores Planner::shared_cores(const Cluster& cluster, const PlanLayout& layout) const {
  return {.cores = cluster.machine_cores,
          .of_rank = cluster.cores,
          .ranks_per_position = static_cast<double>(ranks_) / static_cast<double>(layout.pipeline)};
}

PlannedStep Planner::plan(const PlanLayout& layout) {
  Recipe recipe = with_layout(recipe_, layout);
  check_plan_layout(recipe, ranks_);
  PlannedStep step = build(layout, num_microbatches(recipe, ranks_));
  require_proven(step.shape, step.schedule, step.programs, true);
  const auto skewed = with_every_skew_waited_for(step.programs, step.costs, settings_.skew);
  step.skewed_seconds = simulate(step.programs, skewed, shared_cores(cluster_, layout)).makespan;
  if (const int64_t first = recipe.train.batch_ramp.from; first > 0) {
    recipe.train.global_batch = first;
    step.first_seconds = build(layout, num_microbatches(recipe, ranks_)).figures.seconds;
  }
  return step;
}

StepFigures Planner::estimate(const PlanLayout& layout) {
  const Recipe recipe = with_layout(recipe_, layout);
  check_plan_layout(recipe, ranks_);
  const int64_t all = num_microbatches(recipe, ranks_);
  if (is_file_schedule(layout.schedule) || all <= 3 * unit_of(layout))
    return build(layout, all).figures;
  const SteadyState steady = steady_state(layout);
  const StepFigures &a = steady.shorter.figures, &b = steady.longer.figures;
  const double further = static_cast<double>(all - steady.longer.num_microbatches) /
                         static_cast<double>(steady.further);
  const auto at_all = [&](double x, double y) { return std::max(0.0, y + further * (y - x)); };
  StepFigures figures = b;
  figures.seconds = at_all(a.seconds, b.seconds);
  figures.far_bytes = at_all(a.far_bytes, b.far_bytes);
  figures.near_bytes = at_all(a.near_bytes, b.near_bytes);
  LaneAccount& account = figures.account;
  account.compute_seconds = at_all(a.account.compute_seconds, b.account.compute_seconds);
  account.transfer_seconds = at_all(a.account.transfer_seconds, b.account.transfer_seconds);
  account.hidden_seconds = at_all(a.account.hidden_seconds, b.account.hidden_seconds);
  account.exposed_seconds = at_all(a.account.exposed_seconds, b.account.exposed_seconds);
  account.idle_seconds = at_all(a.account.idle_seconds, b.account.idle_seconds);
  return figures;
}

SteadyState Planner::steady_state(const PlanLayout& layout) {
  if (is_file_schedule(layout.schedule)) {
    const int64_t all = num_microbatches(with_layout(recipe_, layout), ranks_);
    return {.shorter = {}, .longer = build(layout, all), .further = all};
  }
  const int64_t unit = unit_of(layout);
  return {.shorter = build(layout, 2 * unit), .longer = build(layout, 3 * unit), .further = unit};
}

double Planner::least_seconds(const PlanLayout& layout) {
  const Recipe recipe = with_layout(recipe_, layout);
  check_plan_layout(recipe, ranks_);
  const ModelWork& work = phases_of(layout);
  double all = kind_seconds(cluster_, work, Kind::embed, -1);
  for (const double seconds : layer_seconds(work)) all += seconds;
  for (int layer = work.num_hidden_layers - 1; layer < static_cast<int>(work.like.size()); ++layer)
    all += kind_seconds(cluster_, work, Kind::head, layer);
  return all * static_cast<double>(num_microbatches(recipe, ranks_)) /
         static_cast<double>(layout.pipeline);
}

int64_t Planner::resident_bytes(const PlanLayout& layout) {
  const Recipe recipe = with_layout(recipe_, layout);
  check_plan_layout(recipe, ranks_);
  // It does not depend on how many micro-batches there are; a short schedule is made sooner.
  const int64_t few = std::min(num_microbatches(recipe, ranks_), 2 * unit_of(layout));
  Frame frame = this->frame(layout, few, CutBy::even_layers);
  ModelWork work = phases_of(layout);
  work.buckets = std::move(frame.buckets.work);
  int64_t most = 0;
  for (int position = 0; position < frame.schedule.num_positions(); ++position)
    most = std::max(most, resident_memory(work, position).total());
  return most;
}

double Planner::seconds_on(const Cluster& cluster, const PlannedStep& step) const {
  return simulate(step.programs, costs_on(cluster, step.work, step.programs),
                  shared_cores(cluster, step.layout))
      .makespan;
}

double Planner::seconds_on(const Cluster& cluster, const SteadyState& steady) const {
  const double shorter = steady.shorter.programs.empty() ? 0 : seconds_on(cluster, steady.shorter);
  return (seconds_on(cluster, steady.longer) - shorter) / static_cast<double>(steady.further);
}

}  // namespace strait
