// launch/plan/choose_schedule.h: what `parallel.schedule: auto` stands for: the schedule, chunks,
// pairs and waves that are predicted to be fastest on a cluster, at the recipe's pipeline size,
// expert-parallel size and micro-batch.
#pragma once

#include "launch/plan/planner.h"

namespace strait {

bool asks_for_schedule(const Recipe& recipe);

// The recipe's layout, with what the planner chooses on its own cluster where the recipe asks for
// it. If nothing fits the memory there, what needs the least. Errors: RecipeError when the recipe's
// sizes do not fit the ranks.
PlanLayout own_layout(Planner& planner);

// On parallel.cluster. `seconds`: the step it predicts. Errors: as own_layout, and RecipeError when
// the cluster cannot be read or its memory holds no schedule.
struct ChosenSchedule {
  PlanLayout layout;
  double seconds = 0;
};
// REQUIRES: asks_for_schedule(recipe).
ChosenSchedule choose_schedule(const Recipe& recipe, int64_t ranks);

}  // namespace strait
