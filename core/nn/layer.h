// core/nn/layer.h: one transformer layer, cut into the phases a program runs.
// T tokens of a micro-batch, H hidden, U token rows that arrived at this rank's experts, R (row,
// expert) pairs of them.
//
// Autograd sees the phases only; the exchanges between them (parallel/expert) move plain tensors:
//   attention: hidden [T, H] -> residual [T, H], x [T, H], expert ids and weights [T, K]
//   shared:    x -> shared experts' output [T, H]            (a dense layer's MLP likewise)
//   experts:   token rows [U, H], weights of the pairs [R] -> per token row, the sum over this
//   rank's experts [U, H]
// After an input gradient a phase holds what its weight gradients read, and no more.
// The residual stream and all sums into it are FP32; x and the outputs of MLPs have the compute
// dtype. Source: DeepSeek-V3 report, sections 2.1 and 3.2; design of the split: zero-bubble
// pipelines, arXiv 2401.10241.
#pragma once

#include <memory>

#include "core/autograd/functions.h"
#include "core/nn/model.h"

namespace strait {

// Of the residual stream, in memory and on its way between stages.
inline constexpr DType kHiddenDType = DType::f32;

// What the layers of a run share.
struct LayerContext {
  Context* ctx = nullptr;
  const Model* model = nullptr;
  std::shared_ptr<const RopeTable> rope;
  double softmax_scale = 1;
  Mode mode = Mode::inference;
  Recompute recompute;
  int64_t sequence_length = 0;
  double balance_alpha = 0;
  int64_t sequences_of_step = 1;  // over all ranks: the balance loss is a mean over them
  int64_t head_chunk_tokens =
      512;  // whose logits exist at once: 16 MiB of FP32 at a vocabulary of 8,192
};

// What the settings mean for the router.
RouteSettings route_settings(const ModelSettings& settings);
// The published model's latent norms keep the default, whatever rms_norm_eps says.
inline constexpr double kLatentNormEps = 1e-6;

struct AttentionPhase {
  std::unique_ptr<Segment> segment;
  Var hidden, residual, x;
  Var gate_weights;   // [T, K] FP32, MoE layers only
  Tensor expert_ids;  // [T, K] i32
  Tensor
      balance_loss;  // [B] FP32: alpha times the loss of each sequence; undefined when alpha is 0
};
// The caller ends the forward with phase.segment->finish_forward() once nobody reads x any more.
AttentionPhase attention_forward(const LayerContext& run, const LayerParameters& layer,
                                 const Tensor& hidden, const Tensor& selection_bias_E);
// Gradients of residual, x (the parts of all its readers) and gate_weights (undefined for a dense
// layer)
// -> gradient of hidden, FP32.
Tensor attention_input_gradient(AttentionPhase& phase, Tensor d_residual, std::vector<Tensor> d_x,
                                Tensor d_gate_weights);

struct MlpPhase {
  std::unique_ptr<Segment> segment;
  Var x, y;
};
// A dense MLP or the shared experts.
MlpPhase mlp_forward(const LayerContext& run, const MlpParameters& mlp, std::shared_ptr<Value> x);
Tensor mlp_input_gradient(MlpPhase& phase, const Tensor& d_y);  // gradient of x, FP32

// What arrived for this rank's experts.
struct ExpertBatch {
  std::shared_ptr<Value> rows;  // [U, H], compute dtype
  bool rows_are_x = false;      // of attention's phase, which others read, too
  Tensor pair_weights;          // [R] FP32
  Offsets offsets;              // [E_local + 1] of the pairs
  PairMapPtr pairs;
};
struct ExpertsPhase {
  std::unique_ptr<Segment> segment;
  Var rows, pair_weights;
  Var sums;  // [U, H]
};
ExpertsPhase experts_forward(const LayerContext& run, const LayerParameters& layer,
                             const ExpertBatch& batch, DType sums_dtype);
struct ExpertsGradient {
  Tensor d_rows;          // [U, H] FP32
  Tensor d_pair_weights;  // [R] FP32
};
ExpertsGradient experts_input_gradient(ExpertsPhase& phase, const Tensor& d_sums);

}  // namespace strait
