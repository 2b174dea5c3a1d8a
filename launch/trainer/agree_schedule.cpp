#include "launch/trainer/agree_schedule.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <sstream>

#include "launch/plan/choose_schedule.h"
#include "launch/trainer/agree.h"
#include "launch/trainer/run_folder.h"
#include "launch/view/time_text.h"
#include "recipes/check.h"

namespace strait {
namespace {

// What the run was started with, if it was chosen for what the recipe asks now.
std::optional<PlanLayout> kept_schedule(const Recipe& recipe, int64_t ranks,
                                        const std::string& run_folder) {
  const std::string path = RunFolder::recipe(run_folder);
  if (run_folder.empty() || !std::filesystem::exists(path)) return std::nullopt;
  try {
    const Recipe before = load_recipe(path);
    const PlanLayout layout = layout_of(before);
    const ParallelSettings &was = before.parallel, &is = recipe.parallel;
    const bool same = was.cluster == is.cluster && was.pipeline == is.pipeline &&
                      was.expert == is.expert &&
                      before.train.micro_batch == recipe.train.micro_batch;
    if (!same || asks_for_schedule(before)) return std::nullopt;
    check_plan_layout(with_layout(recipe, layout), ranks);
    return layout;
  } catch (const RecipeError&) {  // of a version with other keys, or for other sizes
    return std::nullopt;
  }
}

std::string text_of(const PlanLayout& layout) {
  return fmt::format("{} {} {} {}", layout.schedule, layout.chunks, int{layout.pairs},
                     layout.waves);
}

}  // namespace

Recipe agree_schedule(Recipe recipe, Comm& comm, int64_t ranks, const std::string& run_folder,
                      const std::function<void(const std::string& line)>& say) {
  if (!asks_for_schedule(recipe)) return recipe;
  PlanLayout layout = layout_of(recipe);
  std::string text;
  together(comm, [&] {
    if (comm.rank().value != 0) return;
    if (const auto kept = kept_schedule(recipe, ranks, run_folder)) {
      text = text_of(*kept);
      say(fmt::format("schedule auto: {}, as this run was started", to_string(*kept)));
      return;
    }
    const ChosenSchedule chosen = choose_schedule(recipe, ranks);
    text = text_of(chosen.layout);
    say(fmt::format("schedule auto: {}; predicted step on {}: {}", to_string(chosen.layout),
                    recipe.parallel.cluster, time_text(1e6 * chosen.seconds, false)));
  });
  std::istringstream words(from_rank_zero(comm, text));
  words >> layout.schedule >> layout.chunks >> layout.pairs >> layout.waves;
  return with_layout(std::move(recipe), layout);
}

}  // namespace strait
