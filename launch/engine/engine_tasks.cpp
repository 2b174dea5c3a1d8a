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

void Engine::embed(const Task& task) {
  if (task.pass == Pass::input_gradient) {
    embed_segment_->backward({{embedded_, std::exchange(d_hidden_, {})}});
    embed_segment_.reset();
    embedded_ = {};
    targets_ = mtp_targets_ = next_ids_ = {};
    note_loads_at_peak();
    return;
  }
  const int64_t length = settings_.sequence_length, count = settings_.micro_batch;
  std::vector<int32_t> ids, next, after_next;
  for (int64_t sequence = 0; sequence < count && ctx_->device() == Device::cpu; ++sequence) {
    const int32_t* window =
        windows_->data() + (task.microbatch * count + sequence) * window_tokens();
    ids.insert(ids.end(), window, window + length);
    next.insert(next.end(), window + 1, window + 1 + length);
    if (model_.has_mtp()) after_next.insert(after_next.end(), window + 2, window + 2 + length);
  }
  const auto tokens = [&](std::vector<int32_t> values) {
    values.resize(static_cast<size_t>(count * length));
    return tensor_of(*ctx_, std::span<const int32_t>(values), Purpose::data);
  };
  targets_ = tokens(next);
  sums_[kTargets] += static_cast<double>(
      std::count_if(next.begin(), next.end(), [](int32_t t) { return t >= 0; }));
  if (model_.has_mtp()) {
    mtp_targets_ = tokens(after_next);
    sums_[kMtpTargets] += static_cast<double>(
        std::count_if(after_next.begin(), after_next.end(), [](int32_t t) { return t >= 0; }));
    next_ids_ = tokens(with_rows(next));
  }
  embed_segment_ = std::make_unique<Segment>(*ctx_, layer_context_.mode, settings_.recompute);
  embedded_ = embedding(*embed_segment_, tokens(with_rows(ids)), *model_.embedding);
}

// The layer's output: residual + MLP or shared experts + routed experts.
Tensor Engine::finish_layer(int index, int microbatch) {
  if (layer_end_watcher_) layer_end_watcher_(index, Pass::forward, true);
  Layer& layer = layers_[static_cast<size_t>(index)];
  const Tensor& residual = layer.attention.residual.get();
  Tensor hidden = ctx_->empty(residual.shape(), DType::f32, Purpose::activations);
  cast(*ctx_, residual, hidden);
  if (layer.mlp.segment) {
    add(*ctx_, layer.mlp.y.get(), hidden);
    layer.mlp.y.value.reset();
  }
  if (layer.exchange) add_expert_sums(index, microbatch, hidden);
  layer.attention.segment->finish_forward();
  if (layer_context_.mode == Mode::inference) layer = {};
  if (layer_end_watcher_) layer_end_watcher_(index, Pass::forward, false);
  return hidden;
}

void Engine::attention_task(const Task& task) {
  const int index = task.layer;
  Layer& layer = layers_[static_cast<size_t>(index)];
  const LayerParameters& parameters = model_.layers[static_cast<size_t>(index)];
  if (task.pass == Pass::weight_gradient) {
    layer.attention.segment->weight_gradients();
    if (is_mtp(index)) {
      mtp_input_.segment->weight_gradients();
      mtp_input_ = {};
    }
    layer = {};
    return;
  }
  if (task.pass == Pass::input_gradient) {
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
      d_normed_from_mtp_ = mtp_input_gradient(mtp_input_, d_hidden);
    } else if (index > 0) {
      begin_layer_backward(index - 1, d_hidden);
    } else {
      d_hidden_ = d_hidden;
    }
    return;
  }
  Tensor hidden;
  if (is_mtp(index)) {
    mtp_input_ = mtp_input_forward(layer_context_, main_head_.normed.value, next_ids_);
    main_head_.segment->finish_forward();
    hidden = mtp_input_.hidden.get();
    mtp_input_.hidden.value.reset();
  } else {
    hidden = index == 0 ? embedded_.get() : finish_layer(index - 1, task.microbatch);
    if (index == 0) embedded_.value.reset();
  }
  layer = {};
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
  layer.exchange = std::make_unique<ExpertExchange>(
      ExchangeSettings{.ctx = ctx_.get(),
                       .links = links_,
                       .num_experts = experts,
                       .compute = settings_.compute,
                       .combine_wire = settings_.combine_wire,
                       .expected = loads_[static_cast<size_t>(parameters.moe_index)]},
      layer.attention.x.value, layer.attention.expert_ids, layer.attention.gate_weights.get());
}

void Engine::begin_layer_backward(int index, Tensor d_out) {
  if (layer_end_watcher_) layer_end_watcher_(index, Pass::input_gradient, true);
  Layer& layer = layers_[static_cast<size_t>(index)];
  layer.d_out = std::move(d_out);
  if (layer.exchange) layer.exchange->pack_gradient(layer.d_out);
  if (layer_end_watcher_) layer_end_watcher_(index, Pass::input_gradient, false);
}

void Engine::mlp_task(const Task& task) {
  Layer& layer = layers_[static_cast<size_t>(task.layer)];
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
  Layer& layer = layers_[static_cast<size_t>(task.layer)];
  if (task.pass == Pass::forward) {
    const LayerParameters& parameters = model_.layers[static_cast<size_t>(task.layer)];
    const ExpertBatch batch = layer.exchange->arrived();
    loads_[static_cast<size_t>(parameters.moe_index)] = layer.exchange->load();
    layer.experts =
        experts_forward(layer_context_, parameters, batch, layer.exchange->sums_dtype());
    layer.exchange->pack_sums(layer.experts.sums.get());
    layer.experts.sums.value.reset();
  } else if (task.pass == Pass::input_gradient) {
    const Tensor d_sums = layer.exchange->take_d_sums();
    layer.exchange->pack_expert_gradients(experts_input_gradient(layer.experts, d_sums));
  } else {
    layer.experts.segment->weight_gradients();
  }
}

void Engine::head(const Task& task) {
  const bool mtp = is_mtp(task.layer);
  HeadPhase& phase = mtp ? mtp_head_ : main_head_;
  if (task.pass == Pass::input_gradient) {
    Tensor d_hidden =
        head_input_gradient(phase, mtp ? Tensor{} : std::exchange(d_normed_from_mtp_, {}));
    phase = {};
    begin_layer_backward(task.layer, d_hidden);
    return;
  }
  const double sequences = static_cast<double>(layer_context_.sequences_of_step);
  const double weight = mtp ? settings_.mtp.loss_weight : 1.0;
  const double scale = weight / (sequences * static_cast<double>(settings_.sequence_length));
  Objective objective = next_token_objective(mtp ? mtp_targets_ : targets_);
  if (!mtp && logits_watcher_ && layer_context_.mode == Mode::inference) {
    objective = [this, inner = std::move(objective)](Context& ctx, Tensor& logits, int64_t first,
                                                     double gradient_scale, Tensor& nll) {
      logits_watcher_(logits, first);
      inner(ctx, logits, first, gradient_scale, nll);
    };
  }
  phase = head_forward(layer_context_, mtp ? *model_.mtp->norm : *model_.norm, *model_.head,
                       finish_layer(task.layer, task.microbatch), objective, scale);
  if (ctx_->device() == Device::cpu)
    for (const float nll : phase.nll.span<float>()) sums_[mtp ? kMtpNll : kNll] += nll;
  if (mtp || !model_.has_mtp()) phase.segment->finish_forward();
  phase.nll = {};
}

}  // namespace strait
