// core/ops/math/router.h: the router's arithmetic for one expert of one token; the definition that
// every device follows.
#pragma once

#include "core/ops/math/activation.h"

namespace strait {

constexpr long kTokensPerPartialSum = 128;  // part of the result: the order of mean scores' sums

// What choosing compares. Candidates stay above -inf whatever the logits are: NaN is dropped.
STRAIT_FORMULA float above_masked(float score) {
  const float lowest = -3.402823466e+38f;
  return score > lowest ? score : lowest;
}

// What a group of `count` experts counts: the sum of its two best biased scores, or its best.
STRAIT_FORMULA float group_score(const float* biased, long count, bool sum_of_two) {
  float first = -__builtin_inff(), second = first;
  for (long i = 0; i < count; ++i) {
    if (biased[i] > first) {
      second = first;
      first = biased[i];
    } else if (biased[i] > second) {
      second = biased[i];
    }
  }
  return sum_of_two ? first + second : first;
}

// What divides the scores of the chosen experts.
STRAIT_FORMULA float chosen_sum(const float* scores, const int* ids, long top_k) {
  float sum = 0;
  for (long k = 0; k < top_k; ++k) sum += scores[ids[k]];
  return sum + 1e-20f;
}

// d_logit from d_score; `mean` is the row's sum of s_i d_i (softmax only).
template <class N>
STRAIT_FORMULA typename N::F sigmoid_gradient(typename N::F score, typename N::F d_score) {
  return d_score * (score * (N::set(1.0f) - score));
}
template <class N>
STRAIT_FORMULA typename N::F softmax_gradient(typename N::F score, typename N::F d_score,
                                              typename N::F mean) {
  return score * (d_score - mean);
}

}  // namespace strait
