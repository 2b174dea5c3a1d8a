#include "launch/commands/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "launch/commands/ranks.h"
#include "launch/commands/verify_run.h"
#include "launch/trainer/agree.h"
#include "launch/trainer/agree_schedule.h"
#include "recipes/formats.h"

namespace strait {

namespace {

int verify_once(const Recipe& recipe, const VerifyOptions& options, Comm& comm) {
  const bool first = comm.rank().value == 0;
  const VerifyReport report =
      verify(recipe, {.steps = options.steps, .free_steps = options.free_steps}, comm);
  if (first) {
    fmt::print("{}\n", options.json ? to_json(report) : to_table(report));
    std::fflush(stdout);
  }
  if (first && !report.passed()) {
    const auto failed =
        std::ranges::find_if(report.gates, [](const Gate& gate) { return !gate.held(); });
    print_error(fmt::format("verify: {}: {} ({}), limit {}; {}", failed->name, failed->worst,
                            failed->unit, failed->limit, failed->where));
  }
  return report.exit_code();
}

}  // namespace

int run_verify(const VerifyOptions& options, Comm& comm) {
  Recipe recipe;
  together(comm, [&] {
    if (options.steps < 1)
      throw RecipeError(fmt::format("--steps: expected 1 or more, got {}", options.steps));
    recipe = load_recipe(options.recipe, options.overrides);
  });
  recipe = agree_schedule(std::move(recipe), comm, comm.size(), "", [&](const std::string& line) {
    fmt::print(options.json ? stderr : stdout, "{}\n", line);
  });
  if (!uses_fp8(recipe)) return verify_once(recipe, options, comm);
  Recipe exact = recipe;  // nothing is quantised: the same layout by tight gates
  exact.train.precision = "bf16";
  exact.formats = {};
  exact.parallel.dispatch_wire = "auto";
  if (exact.parallel.combine_wire == "fp8") exact.parallel.combine_wire = "bf16";
  const int in_bf16 = verify_once(exact, options, comm);
  const int in_fp8 = verify_once(recipe, options, comm);
  return std::max(in_bf16, in_fp8);
}

int run_verify(const VerifyOptions& options) {
  return run_on_ranks(options.ranks, [&](Comm& comm, Watch*) { return run_verify(options, comm); });
}

}  // namespace strait
