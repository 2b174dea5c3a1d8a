// launch/engine/engine_watch.cpp: what watchers are shown of a micro-batch in flight.
#include "core/ops/elementwise.h"
#include "launch/engine/engine_layer.h"

namespace strait {

// The ranks that take part in it, or none for all. REQUIRES: a Comm.
std::vector<Rank> Engine::group_of(const Task& transfer) const {
  switch (transfer.kind) {
    case Kind::dispatch:
    case Kind::combine:
      return links_.ranks->group().ranks();
    case Kind::send:
    case Kind::receive:
    case Kind::swap:
      return {pipe_channel_->group()[transfer.positions.front()]};
    case Kind::gather_weights:
    case Kind::reduce_gradients:
      return bucket_channels_[static_cast<size_t>(transfer.bucket)].group().ranks();
    default:
      return {};
  }
}

// The logits are not kept by the phase; made again from the same operands they have the same bits.
void Engine::show_route(const Task& task, const AttentionPhase& phase) {
  const Parameter& router = *model_.layers[static_cast<size_t>(task.layer)].router;
  Tensor x = phase.x.get();
  if (x.dtype() != DType::f32) {
    Tensor wide = ctx_->empty(x.shape(), DType::f32, Purpose::workspace);
    cast(*ctx_, x, wide);
    x = wide;
  }
  const Tensor logits = ctx_->empty({x.rows(), router.num_rows()}, DType::f32, Purpose::workspace);
  linear(*ctx_, x, router.packed, logits);
  route_watcher_({.microbatch = task.microbatch,
                  .layer = task.layer,
                  .logits_TE = logits,
                  .ids_TK = phase.expert_ids,
                  .weights_TK = phase.gate_weights.get()});
}

void Engine::add_expert_sums(Context& ctx, int index, int microbatch, Tensor& hidden) {
  ExpertWaves& exchange = *layer_of(microbatch, index).exchange;
  if (!sums_watcher_) return exchange.add_sums(ctx, hidden);
  Tensor sums = ctx.zeros(hidden.shape(), DType::f32, Purpose::workspace);
  exchange.add_sums(ctx, sums);
  sums_watcher_(microbatch, index, sums);
  add(ctx, sums, hidden);
}

void Engine::note_loads_at_peak() {
  const int64_t peak = ctx_->memory().at_peak().total();
  if (peak > peak_bytes_) loads_at_peak_ = loads_;
  peak_bytes_ = peak;
}

}  // namespace strait
