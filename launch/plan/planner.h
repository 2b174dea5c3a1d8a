// launch/plan/planner.h: what a step of a recipe takes on a cluster: programs, prices, simulation,
// memory. Nothing is trained and no rank runs; every figure is a prediction.
//
// A step is the boundary of the step before and all of its micro-batches, as in training. One rank
// stands for all data columns of its pipeline position, expert load is even unless a Load says
// otherwise.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "launch/plan/plan_layout.h"
#include "launch/plan/stage_cut.h"
#include "launch/plan/step_costs.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/slot_costs.h"
#include "parallel/program/lower.h"
#include "parallel/sim/price.h"
#include "parallel/sim/simulate.h"
#include "parallel/sim/task_table.h"

namespace strait {

struct PlanSettings {
  int64_t ranks = 0;                        // of the cluster; 0: all
  std::optional<Precision> precision = {};  // empty: the recipe's
  double skew = 1.2;  // of the slow end of the band: rows of the busiest rank over the mean
  // What phases of this model took where they were measured, in place of the cluster's formulas:
  // of the compute tasks of layers that it has.
  std::optional<TaskTable> times = {};
};

// A step's time and where it went; seconds are means over the pipeline positions.
struct StepFigures {
  double seconds = 0;
  LaneAccount account{};                 // compute, transfers hidden and exposed, idle
  double far_bytes = 0, near_bytes = 0;  // payload a rank sends
  MemoryUse memory{};                    // of the fullest position
  int fullest = 0;                       // which one

  double hidden_share() const {
    return account.transfer_seconds > 0 ? account.hidden_seconds / account.transfer_seconds : 1;
  }
};

struct PlannedStep {
  PlanLayout layout;
  int64_t ranks = 0, num_microbatches = 0;
  ModelWork work;
  StepShape shape;
  Schedule schedule;
  std::vector<Program> programs;
  std::vector<std::vector<TaskCost>> costs;
  Simulation simulation;
  StepFigures figures;
  double skewed_seconds =
      0;  // when every exchange waits for the busiest rank, and it has settings.skew times the mean
  double first_seconds = 0;  // of the first step of a batch ramp; 0: the recipe has none
};

// Two steps that differ by some micro-batches of the steady state, where pairs are whole and
// pipelines full.
struct SteadyState {
  PlannedStep shorter, longer;  // a schedule read from a file has no shorter step: it is empty
  int64_t further = 0;          // micro-batches
};

class Planner {
 public:
  Planner(Recipe recipe, Cluster cluster, PlanSettings settings);

  // The whole step, proven (parallel/program/validate.h). Errors: RecipeError when the layout does
  // not fit (check_plan_layout).
  PlannedStep plan(const PlanLayout& layout);
  // The same figures sooner, within a few percent: a step of many micro-batches is as long as one
  // of few plus what each further one adds, found from two short steps. Memory does not depend on
  // how many they are.
  StepFigures estimate(const PlanLayout& layout);
  // Of the fullest position, by purpose: from a short step.
  MemoryUse memory(const PlanLayout& layout);
  // The least time a position's compute can take, over the positions' largest; no schedule is
  // faster. Nothing is lowered.
  double least_seconds(const PlanLayout& layout);
  // Of the fullest position, before any activation; more than usable_memory() never fits.
  int64_t resident_bytes(const PlanLayout& layout);
  SteadyState steady_state(const PlanLayout& layout);
  // Seconds of the planned step on another cluster, and of one further micro-batch.
  double seconds_on(const Cluster& cluster, const PlannedStep& step) const;
  double seconds_on(const Cluster& cluster, const SteadyState& steady) const;

  const Recipe& recipe() const { return recipe_; }
  const Cluster& cluster() const { return cluster_; }
  int64_t ranks() const { return ranks_; }
  Precision precision() const { return precision_; }
  double skew() const { return settings_.skew; }
  // A share of the device's memory is kept for what no table counts: the driver's context,
  // communication buffers, fragments.
  int64_t usable_memory() const;
  double model_flops_per_token() const {
    return model_flops_per_token_;
  }  // forward and backward of the main model, nothing recomputed

 private:
  struct Frame;  // a layout before its programs
  Frame frame(const PlanLayout& layout, int64_t num_microbatches, CutBy cut);
  const PlannedStep& short_step(const PlanLayout& layout);
  const ModelWork& phases_of(const PlanLayout& layout);
  std::vector<double> layer_seconds(const ModelWork& work) const;
  SlotCosts slot_costs(const ModelWork& work) const;
  std::vector<std::vector<TaskCost>> costs_on(const Cluster& cluster, const ModelWork& work,
                                              std::span<const Program> programs) const;
  SharedCores shared_cores(const Cluster& cluster, const PlanLayout& layout) const;
  PlannedStep build(const PlanLayout& layout, int64_t num_microbatches);
  PlannedStep build(const PlanLayout& layout, int64_t num_microbatches, CutBy cut);

  Recipe recipe_;
  Cluster cluster_;
  PlanSettings settings_;
  int64_t ranks_ = 0;
  Precision precision_ = Precision::bf16;
  std::map<std::array<int64_t, 3>, ModelWork> phases_;  // by expert, micro-batch, waves
  std::map<std::string, CutBy> cuts_;                   // by layout
  std::optional<PlannedStep> short_step_;               // the last one
  double model_flops_per_token_ = 0;
};

}  // namespace strait
