#include "launch/plan/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/errors.h"
#include "parallel/pipeline/schedules.h"

namespace strait {
namespace {

std::vector<int64_t> divisors(int64_t number) {
  std::vector<int64_t> all;
  for (int64_t d = 1; d <= number; ++d)
    if (number % d == 0) all.push_back(d);
  return all;
}

// Whole nodes, or an equal part of one.
bool lies_on_nodes(int64_t expert, int64_t ranks_per_node) {
  return expert <= ranks_per_node ? ranks_per_node % expert == 0 : expert % ranks_per_node == 0;
}

// Ways to run the same cut of the model.
std::vector<PlanLayout> schedules_of(PlanLayout layout) {
  std::vector<PlanLayout> all;
  const auto add = [&](const char* name, int64_t chunks, bool pairs) {
    layout.schedule = name;
    layout.chunks = chunks;
    layout.pairs = pairs;
    all.push_back(layout);
  };
  add("1f1b", 0, false);
  add("1f1b", 0, true);
  if (layout.pipeline == 1) return all;
  for (const bool pairs : {false, true})
    for (const int64_t chunks : {2, 4}) add("interleaved", chunks, pairs);
  for (const bool pairs : {false, true})
    for (const char* name : {"zb1p", "zbv"}) add(name, 0, pairs);
  add("dualpipe", 0, false);
  add("dualpipev", 0, false);
  return all;
}

std::vector<PlanLayout> cuts_of(const Planner& planner) {
  const Recipe& recipe = planner.recipe();
  const int64_t ranks = planner.ranks(), layers = recipe.model.num_hidden_layers;
  const int64_t experts = recipe.model.n_routed_experts;
  std::vector<PlanLayout> cuts;
  for (const int64_t pipeline : divisors(ranks)) {
    if (pipeline > layers) break;
    const int64_t data = ranks / pipeline;
    for (const int64_t expert : divisors(std::max<int64_t>(1, experts))) {
      if (data % expert != 0 || !lies_on_nodes(expert, planner.cluster().ranks_per_node)) continue;
      for (const int64_t micro_batch : {1, 2, 4}) {
        if (recipe.train.global_batch % (data * micro_batch) != 0) continue;
        cuts.push_back({.pipeline = pipeline, .expert = expert, .micro_batch = micro_batch});
      }
    }
  }
  return cuts;
}

// A layout that breaks a rule of its schedule is not one.
template <class Value>
std::optional<Value> if_possible(const std::function<Value()>& ask) {
  try {
    return ask();
  } catch (const RecipeError&) {
    return std::nullopt;
  }
}

struct Cut {
  PlanLayout layout;
  double least;  // seconds
};

// Those that keep the rules, fastest compute first.
std::vector<Cut> sorted_cuts(Planner& planner) {
  std::vector<Cut> cuts;
  for (const PlanLayout& layout : cuts_of(planner))
    if (const auto least = if_possible<double>([&] { return planner.least_seconds(layout); }))
      cuts.push_back({layout, *least});
  std::stable_sort(cuts.begin(), cuts.end(),
                   [](const Cut& a, const Cut& b) { return a.least < b.least; });
  return cuts;
}

class Searcher {
 public:
  Searcher(Planner& planner, std::function<void(const PlanLayout&, int)> watch)
      : planner_(planner), watch_(std::move(watch)) {}

  Search run(const std::vector<Cut>& cuts) {
    for (const Cut& cut : cuts) look_at(cut.layout, cut.least);
    sort_fitting();
    // Waves change little of a step's compute: only what leads without them is tried with them.
    constexpr size_t kWaved = 8;
    for (size_t i = 0, leading = std::min(kWaved, search_.fitting.size()); i < leading; ++i)
      try_waves(search_.fitting[i].layout);
    sort_fitting();
    // Close ones change places when they are planned whole.
    constexpr size_t kWhole = 5;
    for (size_t i = 0; i < std::min(kWhole, search_.fitting.size()); ++i)
      search_.fitting[i].figures = planner_.plan(search_.fitting[i].layout).figures;
    sort_fitting();
    return std::move(search_);
  }

 private:
  void sort_fitting() {
    std::stable_sort(search_.fitting.begin(), search_.fitting.end(),
                     [](const Candidate& a, const Candidate& b) {
                       return a.figures.seconds < b.figures.seconds;
                     });
  }
  void look_at(const PlanLayout& cut, double least) {
    for (const PlanLayout& layout : schedules_of(cut)) {
      ++search_.num_looked_at;
      if (least >= best_) {
        ++search_.num_too_slow;
        continue;
      }
      estimate(layout);
    }
  }
  void try_waves(PlanLayout layout) {
    for (const int64_t waves : {2, 4}) {
      if (layout.expert == 1 || experts_here(layout) % waves != 0) continue;
      layout.waves = waves;
      ++search_.num_looked_at;
      estimate(layout);
    }
  }
  int64_t experts_here(const PlanLayout& layout) const {
    return planner_.recipe().model.n_routed_experts / layout.expert;
  }
  void estimate(const PlanLayout& layout) {
    const auto resident = if_possible<int64_t>([&] { return planner_.resident_bytes(layout); });
    if (!resident) {
      --search_.num_looked_at;
      return;
    }
    if (*resident > planner_.usable_memory()) {
      MemoryUse memory;
      memory.bytes[0] = *resident;
      return too_large({layout, {.memory = memory}});
    }
    if (watch_) watch_(layout, search_.num_looked_at);
    const MemoryUse memory = planner_.memory(layout);
    if (memory.total() > planner_.usable_memory()) return too_large({layout, {.memory = memory}});
    const Candidate candidate{layout, planner_.estimate(layout)};
    best_ = std::min(best_, candidate.figures.seconds);
    search_.fitting.push_back(candidate);
  }
  void too_large(const Candidate& candidate) {
    const int64_t bytes = candidate.figures.memory.total(),
                  least = search_.smallest.figures.memory.total();
    if (search_.num_too_large++ == 0 || bytes < least) search_.smallest = candidate;
  }

  Planner& planner_;
  const std::function<void(const PlanLayout&, int)> watch_;
  Search search_;
  double best_ = std::numeric_limits<double>::infinity();
};

}  // namespace

Search search_layouts(Planner& planner, const std::function<void(const PlanLayout&, int)>& watch) {
  return Searcher(planner, watch).run(sorted_cuts(planner));
}

Search search_schedules(Planner& planner) {
  const Recipe& recipe = planner.recipe();
  const PlanLayout own{.pipeline = recipe.parallel.pipeline,
                       .expert = recipe.parallel.expert,
                       .micro_batch = recipe.train.micro_batch};
  return Searcher(planner, {}).run({{own, planner.least_seconds(own)}});
}

std::optional<PlanLayout> nearest_that_fits(Planner& planner, const PlanLayout& asked) {
  const auto fits = [&](const PlanLayout& layout) {
    const auto resident = if_possible<int64_t>([&] { return planner.resident_bytes(layout); });
    return resident && *resident <= planner.usable_memory() &&
           planner.memory(layout).total() <= planner.usable_memory();
  };
  PlanLayout smaller = asked;
  while (--smaller.micro_batch > 0)
    if (fits(smaller)) return smaller;
  for (const Cut& cut : sorted_cuts(planner))
    if (cut.layout.micro_batch == 1 && fits(cut.layout)) return cut.layout;
  return std::nullopt;
}

std::string why_faster(const StepFigures& first, const StepFigures& second) {
  struct Part {
    const char* name;
    double saved;
  };
  const LaneAccount &a = first.account, &b = second.account;
  std::vector<Part> parts = {{"compute", b.compute_seconds - a.compute_seconds},
                             {"exposed communication", b.exposed_seconds - a.exposed_seconds},
                             {"idle time", b.idle_seconds - a.idle_seconds}};
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& x, const Part& y) { return x.saved > y.saved; });
  std::string text;
  for (const Part& part : parts) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{:.3g} s {} {}", std::abs(part.saved), part.saved >= 0 ? "less" : "more",
                        part.name);
  }
  return text;
}

NarrowestLink narrowest_link(Planner& planner, const PlanLayout& layout, double tolerance) {
  // A thousand times wider stands for a link that is never waited for.
  constexpr double kWide = 1000;
  const Cluster& own = planner.cluster();
  const SteadyState steady = planner.steady_state(layout);
  const auto seconds_at = [&](double card, double fabric) {  // as factors of the cluster's own
    Cluster cluster = own;
    cluster.card_bandwidth *= card;
    cluster.fabric_bandwidth *= fabric;
    return planner.seconds_on(cluster, steady);
  };
  const double most = tolerance * seconds_at(kWide, kWide);
  const auto least_factor = [&](double low, double high, const auto& seconds_of) {
    while (high / low > 1.01) {
      const double middle = std::sqrt(low * high);
      (seconds_of(middle) <= most ? high : low) = middle;
    }
    return high;
  };
  double card = 0, fabric = 0;
  if (steady.longer.figures.far_bytes > 0)
    card = least_factor(1 / kWide, kWide, [&](double f) { return seconds_at(f, kWide); });
  if (steady.longer.figures.near_bytes > 0)
    fabric = least_factor(1 / kWide, kWide, [&](double f) { return seconds_at(kWide, f); });
  // What each costs alone adds up where both are as narrow as that.
  if (card > 0 && fabric > 0 && seconds_at(card, fabric) > most) {
    const double both =
        least_factor(1, kWide, [&](double f) { return seconds_at(f * card, f * fabric); });
    card *= both;
    fabric *= both;
  }
  return {.card = own.card_bandwidth * card, .fabric = own.fabric_bandwidth * fabric};
}

}  // namespace strait
