// core/nn/decode_sampling.h: which token comes next.   V vocabulary.
#pragma once

#include <cstdint>
#include <span>

namespace strait {

struct SamplingSettings {
  double temperature = 1;  // divides the logits; 0: always the largest
  double top_p = 1;  // only the likeliest tokens whose probabilities reach this sum, in (0, 1]
  uint64_t seed = 0;
};

// The token drawn from softmax(logits / temperature), restricted to top_p; ties go to the lowest
// id. A pure function: the same arguments, the same token; `draw` numbers the draws of a seed.
// NumericsError: a logit is NaN, or the largest is not finite. REQUIRES: logits is not empty.
// Cost: O(V + k log V) for k tokens within top_p.   Source of top_p: Holtzman et al., arXiv
// 1904.09751.
int32_t sample_token(std::span<const float> logits_V, const SamplingSettings& settings,
                     uint64_t draw);

}  // namespace strait
