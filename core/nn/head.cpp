#include "core/nn/head.h"

#include <algorithm>
#include <utility>

#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"

namespace strait {

Objective next_token_objective(Tensor targets_T) {
  return [targets_T = std::move(targets_T)](Context& ctx, Tensor& logits_CV, int64_t first,
                                            double gradient_scale, Tensor& nll_C) {
    const Tensor targets_C = targets_T.view({targets_T.numel(), 1})
                                 .slice_rows(first, logits_CV.rows())
                                 .view({logits_CV.rows()});
    if (gradient_scale > 0) {
      cross_entropy_with_gradient(ctx, logits_CV, targets_C, gradient_scale, nll_C);
    } else {
      cross_entropy(ctx, logits_CV, targets_C, nll_C);
    }
  };
}

HeadPhase head_forward(const LayerContext& run, Parameter& norm, Parameter& head,
                       const Tensor& hidden, const Objective& objective, double gradient_scale) {
  Context& ctx = *run.ctx;
  HeadPhase phase;
  phase.segment = std::make_unique<Segment>(ctx, run.mode, run.recompute);
  phase.hidden = phase.segment->input(hidden);
  phase.normed = rms_norm(*phase.segment, phase.hidden, norm, run.model->settings.rms_norm_eps,
                          run.model->compute);
  const int64_t tokens = hidden.rows(), vocabulary = head.num_rows(), chunk = run.head_chunk_tokens;
  const bool training = run.mode == Mode::training;
  phase.nll = ctx.empty({tokens}, DType::f32, Purpose::activations);
  if (training)
    phase.d_normed = ctx.empty({tokens, hidden.cols()}, DType::f32, Purpose::activations);
  const Tensor nll_T1 = phase.nll.view({tokens, 1});
  const Tensor space =
      ctx.empty({std::min(chunk, tokens), vocabulary}, DType::f32, Purpose::workspace);
  for (int64_t first = 0; first < tokens; first += chunk) {
    const int64_t count = std::min(chunk, tokens - first);
    Tensor logits = space.slice_rows(0, count);
    const Tensor x = phase.normed.get().slice_rows(first, count);
    linear(ctx, x, head.packed, logits);
    Tensor nll = nll_T1.slice_rows(first, count).view({count});
    objective(ctx, logits, first, training ? gradient_scale : 0, nll);
    if (!training) continue;
    linear_input_gradient(ctx, logits, head.packed, phase.d_normed.slice_rows(first, count));
    linear_weight_gradient(ctx, logits, x, head.gradient, Accumulate::yes);
  }
  return phase;
}

Tensor head_input_gradient(HeadPhase& phase, Tensor d_normed_more) {
  std::vector<std::pair<Var, Tensor>> seeds{{phase.normed, std::move(phase.d_normed)}};
  phase.d_normed = {};
  if (d_normed_more.defined()) seeds.emplace_back(phase.normed, std::move(d_normed_more));
  phase.segment->backward(std::move(seeds));
  return phase.hidden.gradient->take();
}

MtpInputPhase mtp_input_forward(const LayerContext& run, std::shared_ptr<Value> main_normed,
                                const Tensor& next_ids_T) {
  const MtpParameters& p = *run.model->mtp;
  const DType compute = run.model->compute;
  const double eps = run.model->settings.rms_norm_eps;
  MtpInputPhase phase;
  phase.segment = std::make_unique<Segment>(*run.ctx, run.mode, run.recompute);
  Segment& segment = *phase.segment;
  phase.main = segment.input(std::move(main_normed));
  const Var token = embedding(segment, next_ids_T, *run.model->embedding);
  const Var a = rms_norm(segment, token, *p.embedding_norm, eps, compute);
  const Var b = rms_norm(segment, phase.main, *p.hidden_norm, eps, compute);
  phase.hidden = linear(segment, concat_columns(segment, a, b), *p.projection, DType::f32);
  segment.finish_forward();
  return phase;
}

Tensor mtp_input_gradient(MtpInputPhase& phase, Tensor d_hidden) {
  phase.segment->backward({{phase.hidden, std::move(d_hidden)}});
  return phase.main.gradient->take();
}

}  // namespace strait
