// launch/trainer/start_weights.h: training that begins with the weights of another model on disk
// (train.start_from) and not with random ones.
#pragma once

#include <string>

#include "launch/engine/engine.h"
#include "recipes/recipe.h"

namespace strait {

// Fills this rank's master weights and the selection bias with those of `recipe.train.start_from`
// and publishes them; where that model has no MTP module, the module's weights stay as they are.
// Moments stay zero. Returns what was read, in words. Collective; all ranks throw when one does:
// RecipeError where the recipe's model is another one, DataError as ModelSource.
std::string load_start_weights(Engine& engine, Comm& comm, const Recipe& recipe);

}  // namespace strait
