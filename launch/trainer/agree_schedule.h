// launch/trainer/agree_schedule.h: the schedule that all ranks run where the recipe leaves it to
// the planner.
#pragma once

#include <functional>
#include <string>

#include "parallel/comm/comm.h"
#include "recipes/recipe.h"

namespace strait {

// Collective. The recipe with what parallel.schedule: auto stands for on so many ranks, the same on
// all: what the run in `run_folder` was started with where that is for the same cluster and sizes,
// else what rank 0's planner chooses. `say` hears of it on rank 0, in one line. A recipe that names
// its schedule comes back as it is. Errors: as choose_schedule. run_folder may be empty.
Recipe agree_schedule(Recipe recipe, Comm& comm, int64_t ranks, const std::string& run_folder,
                      const std::function<void(const std::string& line)>& say);

}  // namespace strait
