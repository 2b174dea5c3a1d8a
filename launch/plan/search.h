// launch/plan/search.h: the best layout of a recipe on a cluster, and the narrowest link that still
// hides its communication.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/plan/planner.h"

namespace strait {

struct Candidate {
  PlanLayout layout;
  StepFigures figures;
};

struct Search {
  std::vector<Candidate>
      fitting;  // fastest first; the first few planned whole, the others estimated
  // Of all layouts that were looked at: not lowered because even their compute alone is slower than
  // the best found, or because memory does not hold them.
  int num_looked_at = 0, num_too_slow = 0, num_too_large = 0;
  Candidate smallest;  // of those that do not fit, the one that needs the least memory; used when
                       // none fits
};

// Every pipeline size, expert-parallel size, micro-batch, schedule (in pairs and not), and waves
// that the model and the ranks allow. `watch` hears of each layout before it is estimated.
Search search_layouts(Planner& planner,
                      const std::function<void(const PlanLayout&, int looked_at)>& watch = {});

// The same of the recipe's own pipeline size, expert-parallel size and micro-batch: its schedules
// (in pairs and not) and waves. Errors: RecipeError when those do not fit the ranks.
Search search_schedules(Planner& planner);

// The nearest layout to `asked` that memory holds: a smaller micro-batch, or else the first cut of
// the model that fits, fastest compute first, with micro-batches of one sequence. Nothing: none.
std::optional<PlanLayout> nearest_that_fits(Planner& planner, const PlanLayout& asked);

// Why `first` is faster than `second`: where its seconds are saved, largest first.
std::string why_faster(const StepFigures& first, const StepFigures& second);

// Bandwidths in bytes per second and rank, as narrow as they can be together: with both, a further
// micro-batch takes at most `tolerance` times what it takes with endless links. (What is exposed
// while pipelines fill and drain no schedule hides.) Each is found with the other endless; where
// both at once are too narrow, both are widened by the same factor. 0: the tier carries nothing.
struct NarrowestLink {
  double card = 0, fabric = 0;
};
NarrowestLink narrowest_link(Planner& planner, const PlanLayout& layout, double tolerance = 1.02);

}  // namespace strait
