// launch/trainer/trainable.h: whether a recipe can be trained at all, before anything is built.
#pragma once

#include <cstdint>

#include "recipes/recipe.h"

namespace strait {

// Throws RecipeError when no class of `transformers` computes the model (a checkpoint holds its
// config.json), or when so many ranks cannot run it; 0: any number.
void require_trainable(const Recipe& recipe, int64_t ranks);

}  // namespace strait
