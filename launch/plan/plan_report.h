// launch/plan/plan_report.h: plans as text for people and JSON for programs. Every figure is a
// prediction and says so.
#pragma once

#include <string>

#include "launch/plan/planner.h"
#include "launch/plan/search.h"

namespace strait {

// What a run of a layout comes to.
struct RunFigures {
  double tokens_per_step = 0;
  double tokens_per_second = 0;  // of all ranks
  // FLOP/s of a rank and its share of the BF16 peak (of FP32 where that is trained). FLOPs: forward
  // and backward of the main model, causal attention counted as half, nothing recomputed, no MTP
  // module. As DeepSeek and NVIDIA report it.
  double flops_per_second = 0, mfu = 0;
  double rank_hours = 0;  // of all tokens
  double dollars = 0;
};

struct RunQuestion {
  double tokens = 0;  // of the run
  double price = 0;   // dollars for an hour of a rank
};

RunFigures run_figures(const Planner& planner, double step_seconds, const RunQuestion& question);

// The layout of a plan, planned on another cluster with as many ranks.
struct PlanElsewhere {
  const Planner* planner = nullptr;
  RunQuestion question{};
  const PlannedStep* same = nullptr;  // or null
  std::string why_not{};              // if null
  const PlannedStep* best = nullptr;  // what a search found there, or null
};

struct PlanReport {
  const Planner* planner = nullptr;
  RunQuestion question{};
  const PlannedStep* asked = nullptr;        // the recipe's own layout, or null
  std::string why_not_asked{};               // if null
  const PlannedStep* best = nullptr;         // what the search found, or null
  const Search* search = nullptr;            // or null
  NarrowestLink narrowest{};                 // of the best, or of what was asked
  const PlanElsewhere* elsewhere = nullptr;  // or null
  int top = 5;                               // layouts that are listed
};
std::string to_text(const PlanReport& report);
std::string to_json(const PlanReport& report);

}  // namespace strait
