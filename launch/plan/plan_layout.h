// launch/plan/plan_layout.h: one way to lay a recipe out over a cluster's ranks.
#pragma once

#include <cstdint>
#include <string>

#include "recipes/recipe.h"

namespace strait {

struct PlanLayout {
  int64_t pipeline = 1, expert = 1;
  int64_t micro_batch = 1;  // sequences
  std::string schedule = "1f1b";
  int64_t chunks = 0;  // of a position; 0: what the schedule has by itself
  bool pairs =
      false;  // neighbouring forwards and backwards run as pairs (parallel/pipeline/pairing.h)
  int64_t waves = 1;
  friend bool operator==(const PlanLayout&, const PlanLayout&) = default;
};

PlanLayout layout_of(const Recipe& recipe);
Recipe with_layout(Recipe recipe, const PlanLayout& layout);

// "pipeline 16, expert 64, dualpipe, micro-batch 1"; what is as usual is left out.
std::string to_string(const PlanLayout& layout);

}  // namespace strait
