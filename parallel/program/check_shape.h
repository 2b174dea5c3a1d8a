// parallel/program/check_shape.h: does a StepShape fit itself and the schedule?
#pragma once

#include "parallel/program/lower.h"

namespace strait {

// Layers, stages, waves and buckets that contradict themselves or each other. Throws RecipeError.
void check_shape(const StepShape& shape);
// The same, and the schedule's stages and positions are those of the shape.
void check_shape(const StepShape& shape, const Schedule& schedule);

}  // namespace strait
