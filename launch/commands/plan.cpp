#include "launch/commands/plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <cstdio>

#include "core/errors.h"
#include "launch/plan/plan_report.h"
#include "recipes/cluster.h"

namespace strait {
namespace {

std::optional<Precision> precision_of(const std::string& name) {
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::fp8})
    if (name == name_of(precision)) return precision;
  return std::nullopt;
}

RunQuestion question_of(const PlanOptions& options, const Planner& planner) {
  const TrainSettings& train = planner.recipe().train;
  const double tokens =
      options.tokens.empty()
          ? static_cast<double>(train.steps * train.global_batch * train.sequence_length)
          : read_tokens(options.tokens);
  return {.tokens = tokens, .price = options.price >= 0 ? options.price : planner.cluster().price};
}

// On a terminal the search says where it is, on one line.
void show_progress(const PlanLayout& layout, int looked_at) {
  if (isatty(2) != 0) fmt::print(stderr, "\r\033[K{}: {}", looked_at, to_string(layout));
}
void end_progress() {
  if (isatty(2) != 0) fmt::print(stderr, "\r\033[K");
}

}  // namespace

double read_tokens(const std::string& text) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const std::string unit(rest, end);
  const double factor = unit.empty()  ? 1
                        : unit == "K" ? 1e3
                        : unit == "M" ? 1e6
                        : unit == "B" ? 1e9
                        : unit == "T" ? 1e12
                                      : 0;
  if (error != std::errc() || factor == 0 || !(number > 0) || !std::isfinite(number))
    throw RecipeError("--tokens: '" + text +
                      "' is not a number of tokens; write for example 14.8T, 500B or 2.3M");
  return number * factor;
}

int run_plan(const PlanOptions& options) {
  Planner planner(
      load_recipe(options.recipe, options.overrides), load_cluster(options.cluster),
      {.ranks = options.ranks, .precision = precision_of(options.precision), .skew = options.skew});
  PlanReport report{
      .planner = &planner, .question = question_of(options, planner), .top = options.top};
  std::optional<PlannedStep> asked, best;
  std::optional<Search> search;
  try {
    asked = planner.plan(layout_of(planner.recipe()));
    report.asked = &*asked;
  } catch (const RecipeError& error) {
    if (options.no_search) throw;
    report.why_not_asked = std::string("does not fit\n") + error.what();
  }
  if (!options.no_search) {
    search = search_layouts(planner, show_progress);
    end_progress();
    report.search = &*search;
    if (!search->fitting.empty()) {
      best = planner.plan(search->fitting.front().layout);
      report.best = &*best;
    }
  }
  const PlannedStep* const chosen = report.best != nullptr ? report.best : report.asked;
  if (chosen != nullptr) report.narrowest = narrowest_link(planner, *chosen);
  fmt::print("{}\n", options.json ? to_json(report) : to_text(report));
  const bool fits = chosen != nullptr && chosen->figures.memory.total() <= planner.usable_memory();
  if (!fits)
    throw RecipeError(
        fmt::format("no layout that was asked for fits {} in {:.1f} GB of usable memory a rank",
                    planner.recipe().run.name, static_cast<double>(planner.usable_memory()) / 1e9));
  return 0;
}

}  // namespace strait
