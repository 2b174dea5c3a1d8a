// launch/commands/plan.h: `strait plan`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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
  bool no_search = false;
  int top = 5;
  bool json = false;
};
int run_plan(const PlanOptions& options);

// "14.8T", "500B", "2.3M", "4096": a number of tokens. Errors: RecipeError.
double read_tokens(const std::string& text);

}  // namespace strait
