#include "launch/plan/choose_schedule.h"

#include <fmt/format.h>

#include "core/errors.h"
#include "launch/plan/search.h"
#include "recipes/cluster.h"

namespace strait {

bool asks_for_schedule(const Recipe& recipe) { return recipe.parallel.schedule == kAutoSchedule; }

PlanLayout own_layout(Planner& planner) {
  if (!asks_for_schedule(planner.recipe())) return layout_of(planner.recipe());
  const Search search = search_schedules(planner);
  return search.fitting.empty() ? search.smallest.layout : search.fitting.front().layout;
}

ChosenSchedule choose_schedule(const Recipe& recipe, int64_t ranks) {
  const std::string place = recipe.places.of("parallel.cluster");
  Cluster cluster;
  try {
    cluster = load_cluster(recipe.parallel.cluster);
  } catch (const RecipeError& error) {
    throw RecipeError(fmt::format("{}: parallel.cluster: {}", place, error.what()));
  }
  Planner planner(recipe, cluster, {.ranks = ranks});
  const Search search = search_schedules(planner);
  if (search.fitting.empty())
    throw RecipeError(fmt::format(
        "{}: parallel.schedule: no schedule fits the {:.3g} GB that a rank of {} can use; the "
        "smallest needs {:.3g} GB: {}",
        recipe.places.of("parallel.schedule"), double(planner.usable_memory()) / 1e9,
        planner.cluster().name, double(search.smallest.figures.memory.total()) / 1e9,
        to_string(search.smallest.layout)));
  return {search.fitting.front().layout, search.fitting.front().figures.seconds};
}

}  // namespace strait
