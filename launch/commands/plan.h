// launch/commands/plan.h: `strait plan`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/sim/task_table.h"

namespace strait {

struct PlanOptions {
  std::string recipe;
  std::vector<std::string> overrides;
  std::string cluster;    // a file, or a name under recipes/clusters
  std::string on;         // another, to plan the layout that was found there too; empty: none
  int64_t ranks = 0;      // 0: all of the cluster
  std::string precision;  // "fp32", "bf16", "fp8"; empty: the recipe's
  std::string tokens;     // "14.8T"; empty: the recipe's steps
  double price = -1;      // dollars for an hour of a rank; negative: the cluster's
  double skew = 1.2;
  std::string task_times;  // a table of measured ones (parallel/sim/task_table.h); empty: none
  bool no_search = false;
  int top = 5;
  bool json = false;
};
int run_plan(const PlanOptions& options);

std::optional<TaskTable> read_task_times(const std::string& path);  // empty: none

// "14.8T", "500B", "2.3M", "4096": a number of tokens. Errors: RecipeError.
double read_tokens(const std::string& text);

}  // namespace strait
