#include "core/nn/layer.h"

namespace strait {

RouteSettings route_settings(const ModelSettings& s) {
  RouteSettings route{.top_k = s.num_experts_per_tok,
                      .n_group = s.n_group,
                      .topk_group = s.topk_group,
                      .norm_topk_prob = s.norm_topk_prob,
                      .routed_scaling_factor = s.routed_scaling_factor};
  route.scoring = s.scoring_func == "softmax" ? RouteSettings::Scoring::softmax
                                              : RouteSettings::Scoring::sigmoid;
  route.method = s.topk_method == "noaux_tc" ? RouteSettings::Method::noaux_tc
                 : s.topk_method == "greedy" ? RouteSettings::Method::greedy
                                             : RouteSettings::Method::group_limited_greedy;
  return route;
}

namespace {

// Named after the module that has `weight`.
std::unique_ptr<Segment> new_segment(const LayerContext& run, const Parameter& weight) {
  return std::make_unique<Segment>(*run.ctx, run.mode, run.recompute, weight.module());
}

// hidden -> the heads' outputs side by side [T, N * v].
Var mla(const LayerContext& run, Segment& segment, const AttentionParameters& p,
        const Var& hidden) {
  const ModelSettings& s = run.model->settings;
  const DType compute = run.model->compute;
  const int64_t qk = s.qk_nope_head_dim + s.qk_rope_head_dim;
  const Var x = rms_norm(segment, hidden, *p.input_norm, s.rms_norm_eps, compute, read_by(*p.kv_a));

  Var q;
  if (p.q != nullptr) {
    q = linear(segment, x, *p.q, compute);
  } else {
    const Var latent = linear(segment, x, *p.q_a, compute);
    const Var normed =
        rms_norm(segment, latent, *p.q_a_norm, kLatentNormEps, compute, read_by(*p.q_b));
    q = linear_recomputed(segment, normed, *p.q_b, compute, run.recompute.mla_up);
  }
  const RopeLayout of_heads{.num_heads = s.num_attention_heads,
                            .head_stride = qk,
                            .offset = s.qk_nope_head_dim,
                            .sequence_length = run.sequence_length};
  q = rope_in_place(segment, q, of_heads, run.rope);

  const Var kv_a = linear(segment, x, *p.kv_a, compute);
  auto [latent, k_rope] = split_columns(segment, kv_a, s.kv_lora_rank);
  const RopeLayout one_head{.sequence_length = run.sequence_length};
  k_rope = rope_in_place(segment, k_rope, one_head, run.rope);
  const Var normed =
      rms_norm(segment, latent, *p.kv_a_norm, kLatentNormEps, compute, read_by(*p.kv_b));
  const Var kv = linear_recomputed(segment, normed, *p.kv_b, compute, run.recompute.mla_up);

  const AttentionShape shape{.num_sequences = hidden.get().rows() / run.sequence_length,
                             .sequence_length = run.sequence_length,
                             .num_heads = s.num_attention_heads,
                             .qk_nope_dim = s.qk_nope_head_dim,
                             .qk_rope_dim = s.qk_rope_head_dim,
                             .v_dim = s.v_head_dim,
                             .softmax_scale = static_cast<float>(run.softmax_scale)};
  return attention(segment, shape, q, kv, k_rope);
}

Var mlp(const LayerContext& run, Segment& segment, const MlpParameters& p, const Var& x) {
  const DType compute = run.model->compute;
  const Var gate_up = linear(segment, x, *p.gate_up, compute);
  return linear(segment, swiglu(segment, gate_up, nullptr, read_by(*p.down)), *p.down, compute);
}

}  // namespace

AttentionPhase attention_forward(const LayerContext& run, const LayerParameters& layer,
                                 const Tensor& hidden, const Tensor& selection_bias_E) {
  const ModelSettings& s = run.model->settings;
  AttentionPhase phase;
  phase.segment = new_segment(run, *layer.attention.o);
  Segment& segment = *phase.segment;
  phase.hidden = segment.input(hidden);
  const Var heads = mla(run, segment, layer.attention, phase.hidden);
  phase.residual = linear_add(segment, heads, *layer.attention.o, phase.hidden);
  phase.x = rms_norm(segment, phase.residual, *layer.attention.mlp_norm, s.rms_norm_eps,
                     run.model->compute);
  if (layer.is_moe) {
    const Var logits = linear(segment, phase.x, *layer.router, DType::f32);
    const BalanceLoss balance{.sequence_tokens = run.sequence_length,
                              .alpha = run.balance_alpha,
                              .gradient_scale = 1.0 / static_cast<double>(run.sequences_of_step)};
    const bool biased = s.topk_method == "noaux_tc";
    const Route routed =
        route(segment, logits, route_settings(s), biased ? selection_bias_E : Tensor{}, balance);
    phase.gate_weights = routed.weights;
    phase.expert_ids = routed.ids;
    phase.balance_loss = routed.balance_loss;
  }
  return phase;
}

Tensor attention_input_gradient(AttentionPhase& phase, Tensor d_residual, std::vector<Tensor> d_x,
                                Tensor d_gate_weights) {
  std::vector<std::pair<Var, Tensor>> seeds{{phase.residual, std::move(d_residual)}};
  for (Tensor& part : d_x) seeds.emplace_back(phase.x, std::move(part));
  if (d_gate_weights.defined()) seeds.emplace_back(phase.gate_weights, std::move(d_gate_weights));
  phase.segment->backward(std::move(seeds));
  for (Var* var : {&phase.hidden, &phase.residual, &phase.x, &phase.gate_weights})
    var->value.reset();
  return phase.hidden.gradient->take();
}

MlpPhase mlp_forward(const LayerContext& run, const MlpParameters& p, std::shared_ptr<Value> x) {
  MlpPhase phase;
  phase.segment = new_segment(run, *p.down);
  phase.x = phase.segment->input(std::move(x));
  phase.y = mlp(run, *phase.segment, p, phase.x);
  phase.segment->finish_forward();
  return phase;
}

Tensor mlp_input_gradient(MlpPhase& phase, const Tensor& d_y) {
  phase.segment->backward({{phase.y, d_y}});
  phase.x.value.reset();
  return phase.x.gradient->take();
}

ExpertsPhase experts_forward(const LayerContext& run, const LayerParameters& layer,
                             const ExpertBatch& batch, DType sums_dtype) {
  const DType compute = run.model->compute;
  ExpertsPhase phase;
  phase.segment = new_segment(run, *layer.experts_down);
  Segment& segment = *phase.segment;
  phase.rows = segment.input(batch.rows);
  phase.pair_weights = segment.input(batch.pair_weights);
  if (!batch.rows_are_x) keep_compact(segment, phase.rows, Kept::fp8, Purpose::routed);
  const Var pairs = gather_pairs(segment, phase.rows, batch.pairs, read_by(*layer.experts_gate_up));
  const Var gate_up =
      grouped_linear(segment, pairs, *layer.experts_gate_up, batch.offsets, compute);
  const Var h = swiglu(segment, gate_up, &phase.pair_weights, read_by(*layer.experts_down));
  const Var y = grouped_linear(segment, h, *layer.experts_down, batch.offsets, compute);
  phase.sums = sum_pairs(segment, y, batch.pairs, sums_dtype);
  segment.finish_forward();
  return phase;
}

ExpertsGradient experts_input_gradient(ExpertsPhase& phase, const Tensor& d_sums) {
  phase.segment->backward({{phase.sums, d_sums}});
  phase.rows.value.reset();
  return {phase.rows.gradient->take(), phase.pair_weights.gradient->take()};
}

}  // namespace strait
