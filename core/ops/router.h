// core/ops/router.h: which experts a token goes to, and with what weight.
// T tokens, E experts, K experts per token, B sequences of S tokens.
//
// A token's scores are sigmoid or softmax of its logits. Experts are chosen by biased score
// (noaux_tc) or by score (greedy, group_limited_greedy); with groups, only experts of the best
// `topk_group` groups are candidates: the others are masked with -inf, so negative biased scores
// keep their order. A group counts the sum of its two best biased scores (noaux_tc) or its best
// score (group_limited_greedy). Ties go to the lowest index, of groups and of experts. Source:
// DeepSeek-V3 report, section 2.1.2; DeepSeek-V2 report, section 2.2.2. Where both describe it the
// results are those of `transformers` (DeepseekV3TopkRouter, DeepseekV2TopkRouter), which ignores
// norm_topk_prob for V2; here it is applied whenever it is set.
#pragma once

#include "core/context.h"
#include "core/ops/accumulate.h"

namespace strait {

struct RouteSettings {
  enum class Scoring : uint8_t { sigmoid, softmax };
  enum class Method : uint8_t { noaux_tc, greedy, group_limited_greedy };

  int64_t top_k = 1;                    // REQUIRES: <= E / n_group * topk_group
  int64_t n_group = 1, topk_group = 1;  // not used by greedy. REQUIRES: n_group divides E
  Scoring scoring = Scoring::sigmoid;
  Method method = Method::noaux_tc;
  bool norm_topk_prob = true;        // divide the K scores by (their sum + 1e-20)
  double routed_scaling_factor = 1;  // multiplies the weights
};

// ids_TK (i32) in descending order of (biased) score; weights_TK (f32) from the unbiased scores.
// logits_TE: f32. bias_E (f32, any sign): REQUIRED defined for noaux_tc, undefined for the others.
// Every token gets K different ids in [0, E), also where logits are not finite.
void route(Context& ctx, const Tensor& logits_TE, const Tensor& bias_E,
           const RouteSettings& settings, Tensor& ids_TK, Tensor& weights_TK);

// d_logits_TE (f32, overwritten) from d_weights_TK; choosing has no gradient. Scores are
// recomputed.
void route_backward(Context& ctx, const Tensor& d_weights_TK, const Tensor& logits_TE,
                    const Tensor& ids_TK, const RouteSettings& settings, Tensor& d_logits_TE);

// The sequence-wise balance loss, per sequence b of S consecutive tokens:
//   loss_b = alpha * sum_i f_i P_i,  f_i = E / (K S) * (times i is in ids),  P_i = mean_t s_it /
//   sum_j s_jt.
// Source: DeepSeek-V3 report, equations 17 to 20.
struct BalanceLoss {
  int64_t sequence_tokens = 0;  // S. REQUIRES: > 0, divides T
  double alpha = 0;
  double gradient_scale =
      1;  // multiplies the gradient only, for example 1 / (sequences of the step)
};
// Writes loss_B (f32) and adds gradient_scale * d loss / d logits to d_logits_TE (f32; f_i is a
// constant). Either output may be undefined and is then skipped. Sums run over chunks of 128 tokens
// in a fixed tree: the same bits for any number of threads.
void balance_loss(Context& ctx, const Tensor& logits_TE, const Tensor& ids_TK,
                  const RouteSettings& settings, const BalanceLoss& loss, Tensor& loss_B,
                  Tensor& d_logits_TE);

// counts_E (i64): how often each expert is in ids_TK; written or added to.
void count_experts(Context& ctx, const Tensor& ids_TK, Accumulate accumulate, Tensor& counts_E);

}  // namespace strait
