// launch/engine/engine_tasks.cpp: forward and backward of one micro-batch, task by task.
#include <algorithm>
#include <cstring>

#include "core/ops/elementwise.h"
#include "launch/engine/engine_layer.h"
#include "parallel/expert/pair_map.h"

namespace strait {

namespace {

// A target that is not counted may also be the next position's input, and then needs a row of the
// embedding.
std::vector<int32_t> with_rows(std::vector<int32_t> ids) {
  std::replace(ids.begin(), ids.end(), -1, 0);
  return ids;
}

}  // namespace

Engine::Layer& Engine::layer_of(int microbatch, int layer) {
  auto& slot = microbatches_[static_cast<size_t>(microbatch)].layers[static_cast<size_t>(layer)];
  STRAIT_CHECK(slot != nullptr, "the layer is not in flight");
  return *slot;
}

// Tokens [offset, offset + length) of each of a micro-batch's windows; on `meta` any.
std::vector<int32_t> Engine::ids_of(int microbatch, int64_t offset) const {
  const int64_t length = settings_.sequence_length, count = settings_.micro_batch;
  std::vector<int32_t> ids;
  for (int64_t sequence = 0; sequence < count && ctx_->device() == Device::cpu; ++sequence) {
    const int32_t* window =
        windows_->data() + (microbatch * count + sequence) * window_tokens() + offset;
    ids.insert(ids.end(), window, window + length);
  }
  return ids;
}

Tensor Engine::tokens(std::vector<int32_t> ids) {
  ids.resize(static_cast<size_t>(settings_.micro_batch * settings_.sequence_length));
  return tensor_of(*ctx_, std::span<const int32_t>(ids), Purpose::data);
}

void Engine::embed(const Task& task) {
  Microbatch& mine = microbatches_[static_cast<size_t>(task.microbatch)];
  if (task.pass == Pass::input_gradient) {
    mine.embed_segment->backward({{mine.embedded, std::exchange(mine.d_embedded, {})}});
    mine.embed_segment.reset();
    mine.embedded = {};
    return;
  }
  mine.embed_segment = std::make_unique<Segment>(*ctx_, layer_context_.mode, settings_.recompute);
  mine.embedded = embedding(*mine.embed_segment, tokens(with_rows(ids_of(task.microbatch, 0))),
                            *model_.embedding);
}

// The layer's output: residual + MLP or shared experts + routed experts.
Tensor Engine::finish_layer(Context& ctx, int index, int microbatch) {
  if (layer_end_watcher_) layer_end_watcher_(index, Pass::forward, true);
  Layer& layer = layer_of(microbatch, index);
  const Tensor& residual = layer.attention.residual.get();
  Tensor hidden = ctx.empty(residual.shape(), DType::f32, Purpose::activations);
  cast(ctx, residual, hidden);
  if (layer.mlp.segment) {
    add(ctx, layer.mlp.y.get(), hidden);
    layer.mlp.y.value.reset();
  }
  if (layer.exchange) add_expert_sums(ctx, index, microbatch, hidden);
  layer.attention.segment->finish_forward();
  if (layer_context_.mode == Mode::inference)
    microbatches_[static_cast<size_t>(microbatch)].layers[static_cast<size_t>(index)].reset();
  if (layer_end_watcher_) layer_end_watcher_(index, Pass::forward, false);
  return hidden;
}

void Engine::attention_task(const Task& task) {
  const int index = task.layer;
  Microbatch& mine = microbatches_[static_cast<size_t>(task.microbatch)];
  auto& slot = mine.layers[static_cast<size_t>(index)];
  if (task.pass == Pass::weight_gradient) {
    slot->attention.segment->weight_gradients();
    if (is_mtp(index)) {
      mine.mtp_input.segment->weight_gradients();
      mine.mtp_input = {};
    }
    slot.reset();
    note_loads_at_peak();
    return;
  }
  if (task.pass == Pass::input_gradient) {
    Layer& layer = *slot;
    std::vector<Tensor> d_x;
    if (layer.d_x.defined()) d_x.push_back(std::exchange(layer.d_x, {}));
    Tensor d_weights;
    if (layer.exchange) {
      ExpertExchange::Gradients gradients = layer.exchange->take_gradients();
      d_x.push_back(gradients.d_x);
      d_weights = gradients.d_weights;
    }
    Tensor d_hidden = attention_input_gradient(layer.attention, std::exchange(layer.d_out, {}),
                                               std::move(d_x), d_weights);
    if (is_mtp(index)) {
      mine.d_normed_from_mtp = mtp_input_gradient(mine.mtp_input, d_hidden);
    } else if (index > 0) {
      pass_gradient(index, task.microbatch, std::move(d_hidden));
    } else {
      mine.d_embedded = d_hidden;
    }
    return;
  }
  const LayerParameters& parameters = model_.layers[static_cast<size_t>(index)];
  Tensor hidden;
  if (is_mtp(index)) {
    mine.mtp_input = mtp_input_forward(layer_context_, mine.main_head.normed.value,
                                       tokens(with_rows(ids_of(task.microbatch, 1))));
    mine.main_head.segment->finish_forward();
    hidden = mine.mtp_input.hidden.get();
    mine.mtp_input.hidden.value.reset();
  } else if (index > 0) {
    hidden = hidden_before(index, task.microbatch);
  } else {
    hidden = mine.embedded.get();
    mine.embedded.value.reset();
  }
  slot = std::make_unique<Layer>();
  Layer& layer = *slot;
  const int64_t experts = settings_.model.n_routed_experts;
  Tensor bias;
  if (parameters.is_moe) bias = bias_tensor_.slice_rows(parameters.moe_index, 1).view({experts});
  layer.attention = attention_forward(layer_context_, parameters, hidden, bias);
  if (!parameters.is_moe) return;
  if (route_watcher_) show_route(task, layer.attention);
  const Tensor& losses = layer.attention.balance_loss;
  if (losses.defined() && ctx_->device() == Device::cpu)
    for (const float loss : losses.span<float>()) sums_[kBalance] += loss;
  Tensor counts = expert_counts_.slice_rows(parameters.moe_index, 1).view({experts});
  count_experts(*ctx_, layer.attention.expert_ids, Accumulate::yes, counts);
  layer.exchange = std::make_unique<ExpertWaves>(
      ExchangeSettings{
          .ctx = ctx_.get(),
          .links = links_,
          .num_experts = experts,
          .compute = settings_.formats.compute,
          .combine_wire = settings_.combine_wire,
          .fp8 = settings_.fp8_dispatch,
          .fp8_sums = settings_.fp8_sums,
          .may_forget = routed_pool_.limited() && layer_context_.mode == Mode::training,
          .expected = loads_[static_cast<size_t>(parameters.moe_index)],
          .name = parameters.experts_down->module()},
      step_shape_.waves, layer.attention.x.value, layer.attention.expert_ids,
      layer.attention.gate_weights.get());
  layer.experts.resize(static_cast<size_t>(layer.exchange->num_waves()));
}

void Engine::begin_layer_backward(Context& ctx, int index, int microbatch, Tensor d_out) {
  if (layer_end_watcher_) layer_end_watcher_(index, Pass::input_gradient, true);
  Layer& layer = layer_of(microbatch, index);
  layer.d_out = std::move(d_out);
  if (layer.exchange) layer.exchange->pack_gradient(ctx, layer.d_out);
  if (layer_end_watcher_) layer_end_watcher_(index, Pass::input_gradient, false);
}

void Engine::mlp_task(const Task& task) {
  Layer& layer = layer_of(task.microbatch, task.layer);
  const MlpParameters& parameters = model_.layers[static_cast<size_t>(task.layer)].mlp;
  if (task.pass == Pass::forward) {
    layer.mlp = mlp_forward(layer_context_, parameters, layer.attention.x.value);
  } else if (task.pass == Pass::input_gradient) {
    layer.d_x = mlp_input_gradient(layer.mlp, layer.d_out);
  } else {
    layer.mlp.segment->weight_gradients();
  }
}

void Engine::experts_task(const Task& task) {
  Layer& layer = layer_of(task.microbatch, task.layer);
  const LayerParameters& parameters = model_.layers[static_cast<size_t>(task.layer)];
  ExpertExchange& exchange = layer.exchange->wave(task.part);
  ExpertsPhase& experts = layer.experts[static_cast<size_t>(task.part)];
  const auto forward = [&](const ExpertBatch& batch) {
    experts = experts_forward(layer_context_, parameters, batch, exchange.sums_dtype());
  };
  if (task.pass == Pass::forward) {
    forward(exchange.arrived());
    loads_[static_cast<size_t>(parameters.moe_index)] = layer.exchange->load();
    exchange.pack_sums(experts.sums.get());
    experts.sums.value.reset();
    if (layer_context_.mode == Mode::inference || routed_pool_.take(exchange.load().pairs_here))
      return;
    experts = {};
    exchange.forget();
  } else if (task.pass == Pass::input_gradient) {
    const Tensor d_sums = exchange.take_d_sums();
    if (exchange.forgotten()) forward(exchange.arrived_again());
    exchange.pack_expert_gradients(experts_input_gradient(experts, d_sums));
  } else {
    experts.segment->weight_gradients();
    if (!exchange.forgotten()) routed_pool_.give_back(exchange.load().pairs_here);
  }
}

void Engine::head(const Task& task) {
  const bool mtp = is_mtp(task.layer);
  Microbatch& mine = microbatches_[static_cast<size_t>(task.microbatch)];
  HeadPhase& phase = mtp ? mine.mtp_head : mine.main_head;
  if (task.pass == Pass::input_gradient) {
    Tensor d_hidden =
        head_input_gradient(phase, mtp ? Tensor{} : std::exchange(mine.d_normed_from_mtp, {}));
    phase = {};
    pass_gradient(task.layer + 1, task.microbatch, std::move(d_hidden));
    return;
  }
  const double sequences = static_cast<double>(layer_context_.sequences_of_step);
  const double weight = mtp ? settings_.mtp.loss_weight : 1.0;
  const double scale = weight / (sequences * static_cast<double>(settings_.sequence_length));
  const std::vector<int32_t> targets = ids_of(task.microbatch, mtp ? 2 : 1);
  sums_[mtp ? kMtpTargets : kTargets] +=
      static_cast<double>(std::ranges::count_if(targets, [](int32_t t) { return t >= 0; }));
  Objective objective = next_token_objective(tokens(targets));
  if (!mtp && logits_watcher_ && layer_context_.mode == Mode::inference) {
    objective = [this, inner = std::move(objective)](Context& ctx, Tensor& logits, int64_t first,
                                                     double gradient_scale, Tensor& nll) {
      logits_watcher_(logits, first);
      inner(ctx, logits, first, gradient_scale, nll);
    };
  }
  phase = head_forward(layer_context_, mtp ? *model_.mtp->norm : *model_.norm, *model_.head,
                       hidden_before(task.layer + 1, task.microbatch), objective, scale);
  if (ctx_->device() == Device::cpu)
    for (const float nll : phase.nll.span<float>()) sums_[mtp ? kMtpNll : kNll] += nll;
  if (mtp || !model_.has_mtp()) phase.segment->finish_forward();
  phase.nll = {};
}

}  // namespace strait
