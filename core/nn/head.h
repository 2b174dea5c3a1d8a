// core/nn/head.h: final norm, logits and loss, in chunks of tokens.   T tokens, H hidden, V
// vocabulary, C a chunk.
//
// The logits of a whole batch never exist: each chunk's logits become its loss and, in training,
// its gradient at once, including the head's weight gradient.
#pragma once

#include <functional>
#include <memory>

#include "core/nn/layer.h"

namespace strait {

// What is trained for. Turns the logits of tokens [first, first + C) into per-token losses nll_C
// (FP32); with `gradient_scale` above 0 the logits are overwritten by their gradient, times that
// scale. Next-token prediction, SFT masks, distillation and GRPO are objectives.
using Objective = std::function<void(Context& ctx, Tensor& logits_CV, int64_t first,
                                     double gradient_scale, Tensor& nll_C)>;
Objective next_token_objective(Tensor targets_T);  // i32, -1: not counted

struct HeadPhase {
  std::unique_ptr<Segment> segment;
  Var hidden;       // [T, H] FP32, the last layer's output
  Var normed;       // [T, H] compute dtype
  Tensor nll;       // [T] FP32
  Tensor d_normed;  // [T, H] FP32, in training
};
// `gradient_scale`: weight of this loss / targets of the step, over all ranks.
HeadPhase head_forward(const LayerContext& run, Parameter& norm, Parameter& head,
                       const Tensor& hidden, const Objective& objective, double gradient_scale);
// `d_normed_more`: what another reader of `normed` adds (the MTP module), or undefined. Gradient of
// hidden, FP32.
Tensor head_input_gradient(HeadPhase& phase, Tensor d_normed_more);

// The MTP module's input: eh_proj [RMSNorm(embedding of the next token); RMSNorm(the main model's
// normed output)]. Source: DeepSeek-V3 report, equation 21, in the order of the released weights.
struct MtpInputPhase {
  std::unique_ptr<Segment> segment;
  Var main;    // the main model's `normed`
  Var hidden;  // [T, H] FP32, enters the MTP block
};
MtpInputPhase mtp_input_forward(const LayerContext& run, std::shared_ptr<Value> main_normed,
                                const Tensor& next_ids_T);
Tensor mtp_input_gradient(MtpInputPhase& phase, Tensor d_hidden);  // gradient of `main`, FP32

}  // namespace strait
