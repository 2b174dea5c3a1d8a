// recipes/formats.h: what a recipe's precision means for each role.
#pragma once

#include "core/nn/model.h"
#include "recipes/recipe.h"

namespace strait {

ModelFormats formats_of(const Recipe& recipe);
bool dispatches_fp8(const Recipe& recipe);
bool multiplies_fp8(const Recipe& recipe);
// Whether anything at all is FP8.
bool uses_fp8(const Recipe& recipe);
// Whether what waits for the backward pass waits in FP8 and E5M6 (Recompute::compact).
bool keeps_fp8(const Recipe& recipe);

}  // namespace strait
