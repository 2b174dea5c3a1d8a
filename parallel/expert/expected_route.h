// parallel/expert/expected_route.h: over how many ranks or nodes the experts of a token are spread,
// when every expert is as likely as any other. For memory tables and prices, where there is no real
// routing.
#pragma once

#include <cstdint>

#include "core/ops/router.h"

namespace strait {

// The experts are cut into `num_parts` equal stretches (ranks, nodes, or the waves of each of them:
// expert_parts.h): the expected number of them that hold at least one of a token's experts. Without
// groups this is exact. With groups it is the mean over 2,048 tokens whose scores are drawn evenly
// and routed by core/ops/router (standard error about 0.2%): how groups are chosen decides how
// often a chosen group is used, so drawing groups evenly would be wrong by 9% for V3 on nodes.
// REQUIRES: num_parts divides num_experts.
double expected_parts(const RouteSettings& settings, int64_t num_experts, int64_t num_parts);

}  // namespace strait
