// launch/engine/engine_settings.h: what a recipe means for the engine of one rank.
#pragma once

#include "launch/engine/engine.h"
#include "recipes/recipe.h"

namespace strait {

// Where the ranks sit. Errors: as Mesh.
Mesh mesh_of(const Recipe& recipe, const Comm& comm);

// But for the schedule and its stages (launch/plan/stage_cut.h). REQUIRES: check_layout(recipe,
// mesh.size()) has passed. `num_threads` 0: one.
EngineSettings engine_settings(const Recipe& recipe, const Mesh& mesh, int num_threads);

// Compute threads of this rank: the recipe's, or the cores this process may use divided by the
// ranks on its host.
int threads_of_rank(const Recipe& recipe, const Comm& comm);

}  // namespace strait
