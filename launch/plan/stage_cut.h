// launch/plan/stage_cut.h: a model cut into the stages of a schedule.
#pragma once

#include <vector>

#include "launch/engine/engine.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/stages.h"
#include "recipes/recipe.h"

namespace strait {

// What a micro-batch costs, in one unit.
struct ModelCosts {
  std::vector<double> layers{};  // the MTP module last if there is one
  double embedding = 0;
  double head = 0, mtp_head = 0;
  int num_hidden_layers = 0;
};

// Where stages share positions, as even as they can be in compute or in layers (for even memory).
enum class CutBy { even_compute, even_layers };

StagePlaces places_of(const Schedule& schedule);
std::vector<StageLayers> cut_model(const ModelCosts& costs, const Schedule& schedule, CutBy cut);

// Settings of an engine that trains the recipe on its positions: engine_settings(), the schedule
// and the stages, cut by the FLOPs of their products. The same on all ranks. REQUIRES:
// check_layout(recipe, mesh.size()) has passed. `num_threads` 0: one.
EngineSettings training_settings(const Recipe& recipe, const Mesh& mesh, int num_threads);

}  // namespace strait
