// parallel/program/phases.h: slots -> compute tasks: the phases of a chunk's layers, in the order
// one position runs them.
//
// A lone slot runs layer after layer; in a `backward` the weight gradients of a layer's MLP come
// before the input gradient of its attention, so that the gradient's way back from the experts has
// something to hide under. The two slots of a pair are zipped: layer i of one with layer i of the
// other, in this order, the exchanges that run under each on the right (F forward; I and W input
// and weight gradient of the other micro-batch's layer):
//   attention.F              combine.I
//   shared.I experts.I       dispatch.F
//   experts.W shared.W       dispatch.I
//   shared.F experts.F       dispatch.I
//   attention.I              combine.F
//   attention.W              combine.I of the next layer
// A dense layer's MLP stands where the experts do. When one chunk has more layers than the other,
// the ones without exchanges run alone, as far as that can be chosen.
//
// Source of the order: DeepSeek-V3 report, section 3.2.1, figure 4, and the published profile of a
// training step.
#pragma once

#include <vector>

#include "parallel/program/lower.h"

namespace strait {

// One program per position: compute tasks only, no edges.
// Errors: RecipeError when a chunk does not take its micro-batches in order, in forward, input or
// weight gradient.
std::vector<Program> lay_out_phases(const StepShape& shape, const Schedule& schedule);

}  // namespace strait
