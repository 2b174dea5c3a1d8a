// tests/parallel/step_shapes.h: small but complete steps for tests of programs: dense and MoE
// layers, MTP, shared experts, and buckets of every kind: per layer, one over all layers of a
// position, an embedding that first and last stage share, the head.
#pragma once

#include <string>

#include "parallel/pipeline/schedule.h"
#include "parallel/program/lower.h"

namespace strait {

struct ShapeOptions {
  int layers_per_stage = 2;
  bool mtp = true;         // the last layer of the last stage
  bool mtp_alone = false;  // and the only one of it
  bool exchanges = true;
  bool shared_experts = true;
  int waves = 1;
};

// Layer 0 is dense, the others are MoE.
StepShape shape_for(const Schedule& schedule, const ShapeOptions& options);

}  // namespace strait
