#include "launch/plan/plan_layout.h"

#include <fmt/format.h>

#include <utility>

namespace strait {

PlanLayout layout_of(const Recipe& recipe) {
  const ParallelSettings& parallel = recipe.parallel;
  return {.pipeline = parallel.pipeline,
          .expert = parallel.expert,
          .micro_batch = recipe.train.micro_batch,
          .schedule = parallel.schedule,
          .chunks = parallel.chunks,
          .pairs = parallel.pairs,
          .waves = parallel.waves};
}

Recipe with_layout(Recipe recipe, const PlanLayout& layout) {
  ParallelSettings& parallel = recipe.parallel;
  parallel.pipeline = layout.pipeline;
  parallel.expert = layout.expert;
  parallel.schedule = layout.schedule;
  parallel.chunks = layout.chunks;
  parallel.pairs = layout.pairs;
  parallel.waves = layout.waves;
  recipe.train.micro_batch = layout.micro_batch;
  return recipe;
}

std::string to_string(const PlanLayout& layout) {
  std::string text =
      fmt::format("pipeline {}, expert {}, {}", layout.pipeline, layout.expert, layout.schedule);
  if (layout.chunks > 0) text += fmt::format(" of {} chunks", layout.chunks);
  if (layout.pairs) text += " in pairs";
  if (layout.waves > 1) text += fmt::format(", {} waves", layout.waves);
  return text + fmt::format(", micro-batch {}", layout.micro_batch);
}

}  // namespace strait
