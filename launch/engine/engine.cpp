#include "launch/engine/engine.h"

#include <cmath>
#include <cstring>

#include "core/ops/elementwise.h"
#include "launch/engine/engine_layer.h"
#include "launch/engine/step_layout.h"
#include "optim/shard_update.h"
#include "parallel/expert/expected_route.h"
#include "parallel/expert/expert_parts.h"
#include "parallel/program/validate.h"

namespace strait {
namespace {

ReplicaPlace place_in(const Group& group) { return {group.size(), group.self()}; }

LayerContext layer_context(const EngineSettings& settings, Context& ctx, const Model& model) {
  const ModelSettings& s = settings.model;
  const YarnScaling yarn{s.rope_scaling.factor,    s.rope_scaling.original_max_position_embeddings,
                         s.rope_scaling.beta_fast, s.rope_scaling.beta_slow,
                         s.rope_scaling.mscale,    s.rope_scaling.mscale_all_dim};
  LayerContext run;
  run.ctx = &ctx;
  run.model = &model;
  run.rope =
      std::make_shared<RopeTable>(make_rope_table(ctx, {.theta = s.rope_theta,
                                                        .rope_dim = s.qk_rope_head_dim,
                                                        .max_positions = settings.sequence_length,
                                                        .yarn = yarn}));
  run.softmax_scale = attention_softmax_scale(s.qk_nope_head_dim + s.qk_rope_head_dim, yarn);
  run.recompute = settings.recompute;
  run.sequence_length = settings.sequence_length;
  run.head_chunk_tokens = settings.head_chunk_tokens;
  run.balance_alpha = settings.training ? settings.balance.sequence_loss_alpha : 0;
  return run;
}

}  // namespace

Engine::Engine(const EngineSettings& settings, const Mesh& mesh, Rank rank, Comm* comm,
               Device device)
    : settings_(settings),
      mesh_(mesh),
      comm_(comm),
      ctx_(std::make_unique<Context>(device, settings.num_threads)) {
  const MeshPosition position = mesh_.position_of(rank);
  const int64_t experts = settings_.model.n_routed_experts;
  links_ = expert_links(
      mesh_, rank, comm_,
      is_two_tier(settings_.exchange, mesh_.expert_size(), mesh_.expert_ranks_per_node()),
      settings_.exchange_chunks);
  StepLayout layout =
      step_layout(settings_, mesh_, links_.num_nodes() > 1 ? Lane::far : Lane::near);
  step_shape_ = std::move(layout.shape);
  const ModelPart& part = layout.parts[static_cast<size_t>(position.pipeline)];
  model_ = build_model(settings_.model, experts_of_rank(links_, experts, step_shape_.waves),
                       settings_.formats, part);
  if (!settings_.training)
    for (const auto& parameter : model_.parameters)
      parameter->packed = PackedWeight(Orientation::forward);
  const std::map<std::string, Group> shared =
      shared_groups(step_shape_, mesh_, rank, group_parameters(model_, part));
  ShardOptions shards{.data = place_in(mesh_.data(rank)),
                      .expert = place_in(mesh_.replicas(rank)),
                      .part = part,
                      .moments = settings_.optimizer.moments(),
                      .training = settings_.training};
  for (const auto& [name, group] : shared) shards.shared[name] = place_in(group);
  buckets_ = build_buckets(*ctx_, model_, shards);
  if (comm_ != nullptr) {
    world_channel_ = comm_->channel(LinkLane::shard, mesh_.world(rank));
    pipe_channel_ = comm_->channel(LinkLane::pipe, mesh_.pipeline(rank));
    pipe_ctx_ = ctx_->for_other_thread();
    const Channel data = comm_->channel(LinkLane::shard, mesh_.data(rank));
    const Channel replicas = comm_->channel(LinkLane::shard, mesh_.replicas(rank));
    for (const Bucket& bucket : buckets_) {
      const auto found = shared.find(bucket.name);
      bucket_channels_.push_back(found != shared.end()
                                     ? comm_->channel(LinkLane::shard, found->second)
                                 : bucket.replicas == Replicas::expert ? replicas
                                                                       : data);
    }
  }
  layer_context_ = layer_context(settings_, *ctx_, model_);
  bias_.assign(static_cast<size_t>(model_.num_moe_layers * experts), 0.0f);
  if (model_.num_moe_layers > 0) {
    bias_tensor_ = ctx_->zeros({model_.num_moe_layers, experts}, DType::f32, Purpose::weights);
    expert_counts_ = ctx_->zeros({model_.num_moe_layers, experts}, DType::i64, Purpose::data);
  }
  loads_.assign(static_cast<size_t>(model_.num_moe_layers), even_load());
  sums_.assign(kNumSlots, 0);
  totals_.expert_counts.assign(bias_.size(), 0);

  find_crossings(layout.schedule);
  lower_programs(step_shape_, position.pipeline);
  crossings_ = std::make_unique<Crossings>();
  microbatches_.resize(static_cast<size_t>(settings_.num_microbatches));
  for (Microbatch& microbatch : microbatches_) microbatch.layers.resize(model_.layers.size());
}

RoutedRows Engine::even_load() const {
  if (ctx_->device() != Device::meta || model_.num_moe_layers == 0) return {};
  const int64_t tokens = settings_.micro_batch * settings_.sequence_length;
  const RouteSettings route = route_settings(settings_.model);
  const auto rows_to = [&](int64_t parts) {
    return static_cast<int64_t>(std::llround(
        static_cast<double>(tokens) *
        expected_parts(route, settings_.model.n_routed_experts, parts * step_shape_.waves)));
  };
  return {.rows = rows_to(links_.two_tier ? links_.num_nodes() : links_.num_ranks),
          .rows_here = rows_to(links_.num_ranks),
          .pairs_here = tokens * route.top_k};
}

void Engine::lower_programs(const StepShape& shape, int position) {
  for (const int64_t count : settings_.fewer) lower_steps(shape, position, count);
  lower_steps(shape, position, settings_.num_microbatches);
  step_ = &steps_.at(settings_.num_microbatches);
  const auto mine = [position](std::vector<Program> programs) {
    return std::move(programs[static_cast<size_t>(position)]);
  };
  const PeakUse kept = peak_use(step_->later, [&](const Task& task) -> KeptBytes {
    if (task.kind != Kind::experts) return {};
    return {.until_weight_gradient =
                shape.microbatch_rows * settings_.model.num_experts_per_tok / task.num_parts};
  });
  const bool meta = ctx_->device() == Device::meta;  // where every expert gets as many
  routed_pool_ = RoutedPool(kept.bytes, meta ? 0 : settings_.routed_headroom);
  settle_ = mine(lower_settle(shape));
  load_ = mine(lower_load(shape));
  evaluation_ = mine(lower_evaluation(shape, step_->schedule));
}

// All positions' programs, because only together can they be proven.
void Engine::lower_steps(const StepShape& shape, int position, int64_t num_microbatches) {
  EngineSettings settings = settings_;
  settings.num_microbatches = num_microbatches;
  StepPrograms& step = steps_[num_microbatches];
  step.schedule = step_schedule(settings, mesh_);
  for (const bool with_boundary : {false, true}) {
    std::vector<Program> programs = lower_step(shape, step.schedule, with_boundary);
    require_proven(shape, step.schedule, programs, with_boundary);
    (with_boundary ? step.later : step.first) = std::move(programs[static_cast<size_t>(position)]);
  }
}

Engine::~Engine() = default;

int64_t Engine::window_tokens() const {
  return settings_.sequence_length + (model_.has_mtp() ? 2 : 1);
}

void Engine::initialise(uint64_t seed) {
  for (Bucket& bucket : buckets_) {
    if (ctx_->device() == Device::meta) continue;
    for (const BucketEntry& entry : bucket.entries) {
      const int64_t begin = std::max(entry.begin, bucket.shard_begin());
      const int64_t end =
          std::min(entry.begin + entry.parameter->shape.numel(), bucket.shard_end());
      if (begin >= end) continue;
      float* master = bucket.master.data<float>() + (begin - bucket.shard_begin());
      constexpr int64_t kChunk = 1 << 14;
      ctx_->pool().parallel_for(end - begin, kChunk, [&](int64_t first, int64_t last) {
        initial_values(*entry.parameter, settings_.model.initializer_range, seed,
                       begin - entry.begin + first,
                       {master + first, static_cast<size_t>(last - first)});
      });
    }
  }
  load_weights();
}

void Engine::load_weights() {
  for (Bucket& bucket : buckets_)
    if (settings_.training) publish_masters(*ctx_, bucket);
  if (bias_tensor_.defined() && ctx_->device() == Device::cpu)
    std::memcpy(bias_tensor_.raw(), bias_.data(), bias_.size() * sizeof(float));
  run(load_);
}

void Engine::run(const Program& program) {
  const Bindings bindings{.compute = [this](const Task& task) { compute(task); },
                          .transfer = [this](const Task& task) { return transfer(task); },
                          .waits =
                              [this](const Task& task, const Task& transfer) {
                                if (wait_watcher_)
                                  wait_watcher_(task, transfer, group_of(transfer));
                              }};
  if (comm_ == nullptr) {
    execute_inline(program, bindings);
  } else {
    times_ = execute(program, *comm_, bindings,
                     {.spans = records_spans_ ? &spans_ : nullptr, .overlap = settings_.overlap});
    last_program_ = &program;
  }
}

std::optional<StepTotals> Engine::run_step(const std::vector<int32_t>& windows,
                                           double lr_of_last_step) {
  const int64_t microbatch_tokens = settings_.micro_batch * window_tokens();
  const auto given = static_cast<int64_t>(windows.size());
  const int64_t count =
      ctx_->device() == Device::meta ? settings_.num_microbatches : given / microbatch_tokens;
  STRAIT_CHECK(steps_.contains(count) &&
                   (ctx_->device() == Device::meta || given == count * microbatch_tokens),
               "windows for a step that has no program");
  step_ = &steps_.at(count);
  layer_context_.mode = Mode::training;
  sequences_to_commit_ = layer_context_.sequences_of_step;
  layer_context_.sequences_of_step = count * settings_.micro_batch * mesh_.data_size();
  windows_ = &windows;
  learning_rate_ = lr_of_last_step;
  const bool commits = std::exchange(waiting_to_commit_, true);
  run(commits ? step_->later : step_->first);
  windows_ = nullptr;
  if (!commits) return std::nullopt;
  return totals_;
}

std::optional<StepTotals> Engine::settle(double lr_of_last_step) {
  if (!std::exchange(waiting_to_commit_, false)) return std::nullopt;
  sequences_to_commit_ = layer_context_.sequences_of_step;
  learning_rate_ = lr_of_last_step;
  run(settle_);
  return totals_;
}

Engine::Evaluation Engine::evaluate(const std::vector<int32_t>& windows) {
  STRAIT_CHECK(!waiting_to_commit_, "evaluate() needs settled weights");
  const std::vector<double> saved = sums_;
  layer_context_.mode = Mode::inference;
  windows_ = &windows;
  run(evaluation_);
  windows_ = nullptr;
  Evaluation result{.nll = sums_[kNll] - saved[kNll],
                    .targets = sums_[kTargets] - saved[kTargets],
                    .expert_counts = {}};
  if (expert_counts_.defined() && ctx_->device() == Device::cpu) {
    const auto counts = expert_counts_.span<int64_t>();
    result.expert_counts.assign(counts.begin(), counts.end());
    std::memset(expert_counts_.raw(), 0, static_cast<size_t>(expert_counts_.bytes()));
  }
  sums_ = saved;
  // What a training step's backward lets go of.
  Microbatch done;
  done.layers.resize(model_.layers.size());
  microbatches_.front() = std::move(done);
  return result;
}

void Engine::compute(const Task& task) {
  if (task_watcher_) task_watcher_(task);
  in_step([&] { run_task(task); });
}

void Engine::in_step(const std::function<void()>& work) {
  try {
    work();
  } catch (const NotFiniteError& error) {
    throw NotFiniteError("step " + std::to_string(committed_steps_ + 1) + ": " + error.what());
  }
}

void Engine::run_task(const Task& task) {
  switch (task.kind) {
    case Kind::gradient_norm:
      return gradient_norm();
    case Kind::update:
      return update(task.bucket);
    case Kind::pack_weights:
      return pack_weights(task.bucket);
    case Kind::embed:
      return embed(task);
    case Kind::attention:
      return attention_task(task);
    case Kind::shared:
    case Kind::mlp:
      return mlp_task(task);
    case Kind::experts:
      return experts_task(task);
    case Kind::head:
      return head(task);
    default:
      STRAIT_CHECK(false, to_string(task) + " is not a compute task");
  }
}

OperationPtr Engine::transfer(const Task& task) {
  if (comm_ == nullptr && task_watcher_) task_watcher_(task);
  const auto exchange = [&]() -> ExpertExchange& {
    return layer_of(task.microbatch, task.layer).exchange->wave(task.part);
  };
  switch (task.kind) {
    case Kind::commit:
      return comm_ ? commit() : nullptr;
    case Kind::gather_weights:
      return comm_ ? gather_weights(task.bucket) : nullptr;
    case Kind::reduce_gradients:
      return comm_ ? reduce_gradients(task.bucket) : nullptr;
    case Kind::dispatch:
      return task.pass == Pass::forward ? exchange().dispatch() : exchange().dispatch_inverse();
    case Kind::combine:
      return task.pass == Pass::forward ? exchange().combine() : exchange().combine_inverse();
    case Kind::send:
    case Kind::receive:
    case Kind::swap:
      return cross(task);
    default:
      STRAIT_CHECK(false, to_string(task) + " is not a transfer");
  }
}

}  // namespace strait
