// recipes/check.h: the rules that tie keys of a recipe together. The range of each key by itself is
// in its table.
#pragma once

#include <cstdint>

#include "recipes/recipe.h"
#include "recipes/yaml_tree.h"

namespace strait {

// Every rule the recipe breaks, each with the place of a key it is about. load_recipe has called
// it.
void check_recipe(const Recipe& recipe, Problems& problems);

// Whether a step of the recipe on world_size ranks can be planned: ranks, batch, schedule and
// stages fit each other. Errors: RecipeError with every rule broken and the nearest values that
// work.
void check_plan_layout(const Recipe& recipe, int64_t world_size);

// Whether world_size ranks can train the recipe: the same, and nothing that can only be planned
// yet.
void check_layout(const Recipe& recipe, int64_t world_size);

// Micro-batches that a rank runs in a step. REQUIRES: check_plan_layout has passed.
int64_t num_microbatches(const Recipe& recipe, int64_t world_size);

}  // namespace strait
