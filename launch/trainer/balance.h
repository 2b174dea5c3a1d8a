// launch/trainer/balance.h: how evenly experts are loaded.
#pragma once

#include <cstdint>
#include <span>

namespace strait {

// MaxVio of a layer = (tokens of its most loaded expert - mean) / mean.
// Source: Wang et al., Auxiliary-Loss-Free Load Balancing, arXiv 2408.15664, section 4.1.
struct MaxViolation {
  double mean = 0;  // over MoE layers
  double worst_layer = 0;
};
// counts: [MoE layers, num_experts]. Layers without tokens count as even.
MaxViolation max_violation(std::span<const int64_t> counts, int64_t num_experts);

}  // namespace strait
