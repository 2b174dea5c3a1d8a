#include "launch/commands/plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <memory>

#include "core/errors.h"
#include "launch/plan/choose_schedule.h"
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
  const double tokens = options.tokens.empty()
                            ? static_cast<double>(train.steps) *
                                  static_cast<double>(train.global_batch * train.sequence_length)
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

Search searched(Planner& planner) {
  Search search = search_layouts(planner, show_progress);
  end_progress();
  return search;
}

Planner planner_on(const PlanOptions& options, const std::string& cluster, int64_t ranks) {
  return {load_recipe(options.recipe, options.overrides),
          load_cluster(cluster),
          {.ranks = ranks,
           .precision = precision_of(options.precision),
           .skew = options.skew,
           .times = read_task_times(options.task_times)}};
}

// A layout on options.on, and that cluster's own best if there is a search.
struct Elsewhere {
  Elsewhere(const PlanOptions& options, int64_t ranks)
      : planner(planner_on(options, options.on, ranks)) {
    report.planner = &planner;
    report.question = question_of(options, planner);
  }
  Elsewhere(const Elsewhere&) = delete;
  Elsewhere& operator=(const Elsewhere&) = delete;

  void plan(const PlanLayout& layout, bool searches) {
    try {
      same = planner.plan(layout);
      report.same = &*same;
    } catch (const RecipeError& error) {
      report.why_not = error.what();
    }
    if (!searches) return;
    const Search search = searched(planner);
    if (search.fitting.empty()) return;
    best = planner.plan(search.fitting.front().layout);
    report.best = &*best;
  }

  Planner planner;
  std::optional<PlannedStep> same, best;
  PlanElsewhere report;
};

// Why the plan is none, and what would fit: another layout, or more ranks.
std::string why_too_large(const PlanOptions& options, Planner& planner, const PlannedStep* asked,
                          const PlanLayout& own) {
  constexpr int64_t kMostRanks = 1 << 16;
  const std::string cluster = planner.cluster().name;
  const double usable = static_cast<double>(planner.usable_memory()) / 1e9;
  std::string text;
  if (options.no_search) {
    text = fmt::format(
        "{}: its layout needs {:.1f} GB of the {:.1f} GB that a rank of {} can use; the nearest "
        "that fits: ",
        options.recipe, static_cast<double>(asked->figures.memory.total()) / 1e9, usable, cluster);
    if (const auto layout = nearest_that_fits(planner, own)) return text + to_string(*layout);
  } else {
    text = fmt::format(
        "{}: no layout on {} ranks of {} fits the {:.1f} GB that a rank can use; the nearest that "
        "fits: ",
        options.recipe, planner.ranks(), cluster, usable);
  }
  for (int64_t ranks = 2 * planner.ranks(); ranks <= kMostRanks; ranks *= 2) {
    Planner larger = planner_on(options, options.cluster, ranks);
    if (const auto layout = nearest_that_fits(larger, own))
      return text + fmt::format("--ranks {} with {}", ranks, to_string(*layout));
  }
  return text + fmt::format("none on {} ranks or fewer", kMostRanks);
}

}  // namespace

std::optional<TaskTable> read_task_times(const std::string& path) {
  if (path.empty()) return std::nullopt;
  return read_task_table(path);
}

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
  Planner planner = planner_on(options, options.cluster, options.ranks);
  const auto elsewhere =
      options.on.empty() ? nullptr : std::make_unique<Elsewhere>(options, planner.ranks());
  PlanReport report{
      .planner = &planner, .question = question_of(options, planner), .top = options.top};
  std::optional<PlannedStep> asked, best;
  std::optional<Search> search;
  std::string broken_rule;  // by the recipe's layout
  PlanLayout own = layout_of(planner.recipe());
  try {
    own = own_layout(planner);
    asked = planner.plan(own);
    report.asked = &*asked;
  } catch (const RecipeError& error) {
    if (options.no_search) throw;
    broken_rule = error.what();
    report.why_not_asked = "does not fit\n" + broken_rule;
  }
  if (!options.no_search) {
    search = searched(planner);
    if (search->num_looked_at == 0 && !broken_rule.empty()) throw RecipeError(broken_rule);
    report.search = &*search;
    if (!search->fitting.empty()) {
      best = planner.plan(search->fitting.front().layout);
      report.best = &*best;
    }
  }
  const PlannedStep* const chosen = report.best != nullptr ? report.best : report.asked;
  if (chosen != nullptr) report.narrowest = narrowest_link(planner, chosen->layout);
  if (elsewhere != nullptr && chosen != nullptr) {
    elsewhere->plan(chosen->layout, !options.no_search);
    report.elsewhere = &elsewhere->report;
  }
  fmt::print("{}\n", options.json ? to_json(report) : to_text(report));
  if (chosen == nullptr || chosen->figures.memory.total() > planner.usable_memory())
    throw RecipeError(why_too_large(options, planner, report.asked, own));
  return 0;
}

}  // namespace strait
