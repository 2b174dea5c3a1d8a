// Whether ranks, batch, schedule and layers fit each other.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/errors.h"
#include "parallel/pipeline/schedule_file.h"
#include "recipes/check.h"
#include "recipes/rules.h"

namespace strait {

int64_t num_microbatches(const Recipe& recipe, int64_t world_size) {
  return recipe.train.global_batch /
         (world_size / recipe.parallel.pipeline * recipe.train.micro_batch);
}

namespace {

// A step's program lists all of them; published runs have a few hundred.
constexpr int64_t kMaxMicrobatches = 1 << 14;

// What a layout is checked with where the planner is to choose: if any schedule works, it does.
std::string checked_schedule(const ParallelSettings& parallel) {
  return parallel.schedule == kAutoSchedule ? "1f1b" : parallel.schedule;
}

bool has_stages(const ParallelSettings& parallel) {
  return parallel.pipeline > 1 || checked_schedule(parallel) != "1f1b" || parallel.chunks > 1;
}

// "12" or "8 or 16": the multiples of `unit` around value, above 0.
std::string nearest_multiples(int64_t value, int64_t unit) {
  const int64_t below = value / unit * unit;
  if (below == 0) return fmt::format("{}", unit);
  return fmt::format("{} or {}", below, below + unit);
}

// How a step's number of micro-batches comes about, where a schedule refuses it.
constexpr const char* kMicrobatches = "train.global_batch / (data ranks x train.micro_batch)";

ScheduleOptions schedule_options(const ParallelSettings& parallel, int64_t microbatches,
                                 const char* microbatches_key) {
  return {.positions = static_cast<int>(parallel.pipeline),
          .microbatches = static_cast<int>(microbatches),
          .chunks = static_cast<int>(parallel.chunks),
          .positions_key = "parallel.pipeline",
          .microbatches_key = microbatches_key,
          .chunks_key = "parallel.chunks"};
}

// Why a step of so many sequences cannot be planned, or empty.
std::string batch_problem(const Recipe& recipe, int64_t sequences, int64_t world_size) {
  const int64_t data = world_size / recipe.parallel.pipeline,
                unit = data * recipe.train.micro_batch;
  if (sequences % unit != 0)
    return fmt::format("{} sequences do not split over {} ranks with micro_batch = {}", sequences,
                       data, recipe.train.micro_batch);
  if (!has_stages(recipe.parallel)) return "";
  try {
    require_found_schedule(
        checked_schedule(recipe.parallel),
        schedule_options(recipe.parallel, sequences / unit, "their micro-batches a rank"));
    return "";
  } catch (const RecipeError& error) {
    return error.what();
  }
}

// Every batch on the way can be planned. REQUIRES: the whole one can.
void check_ramp(const Recipe& recipe, int64_t world_size, Rules& rules) {
  const BatchRampSettings& ramp = recipe.train.batch_ramp;
  if (ramp.from == 0) return;  // no ramp
  const int64_t whole = recipe.train.global_batch;
  const auto fits = [&](int64_t sequences) {
    return batch_problem(recipe, sequences, world_size).empty();
  };
  int64_t least = whole;  // all batches from it up fit
  while (least > ramp.from && fits(least - ramp.increment)) least -= ramp.increment;
  if (least <= ramp.from) return;
  int64_t first = ramp.from;
  while (fits(first)) first += ramp.increment;
  std::string works = fmt::format("{}", least);
  if (least == whole) {
    const int64_t unit = world_size / recipe.parallel.pipeline * recipe.train.micro_batch;
    int64_t nearest = 0;
    for (int64_t increment = unit; increment < whole; increment += unit)
      if (fits(whole - increment) && (nearest == 0 || std::abs(increment - ramp.increment) <
                                                          std::abs(nearest - ramp.increment)))
        nearest = increment;
    works = nearest == 0 ? "none, leave batch_ramp out"
                         : fmt::format("{} with increment = {}", whole - nearest, nearest);
  }
  rules.require(false, "train.batch_ramp.from",
                "{} sequences grow by {} to {}, and a step of {} cannot be: {}; the nearest `from` "
                "that works: {}",
                ramp.from, ramp.increment, whole, first, batch_problem(recipe, first, world_size),
                works);
}

// The schedule can be made for so many positions and micro-batches, and the layers fill its stages.
void check_stages_and_schedule(const Recipe& recipe, int64_t microbatches, Problems& problems) {
  const ParallelSettings& parallel = recipe.parallel;
  Rules rules(recipe, problems);
  try {
    const Schedule schedule = find_schedule(
        checked_schedule(parallel), schedule_options(parallel, microbatches, kMicrobatches));
    const int64_t layers = recipe.model.num_hidden_layers, stages = schedule.num_stages;
    const int64_t each = std::max<int64_t>(1, stages / parallel.pipeline);
    rules.require(stages <= layers, "parallel.pipeline",
                  "{} positions of {} have {} stages, more than num_hidden_layers = {}; at most {}",
                  parallel.pipeline, parallel.schedule, stages, layers,
                  std::max<int64_t>(1, layers / each));
  } catch (const RecipeError& error) {
    const std::string text = error.what();
    const std::string key = text.starts_with(kMicrobatches) ? "train.global_batch"
                            : text.starts_with("parallel.")
                                ? text.substr(0, std::min(text.find(' '), text.size()))
                                : "parallel.schedule";  // its file says where by itself
    add_problem(problems, recipe.places.of(key), text);
  }
}

void check_ranks(const Recipe& recipe, int64_t world_size, Problems& problems) {
  STRAIT_CHECK(world_size >= 1, fmt::format("a world of {} ranks", world_size));
  Rules rules(recipe, problems);
  const int64_t pipeline = recipe.parallel.pipeline, expert = recipe.parallel.expert;
  const int64_t unit = pipeline * expert;
  if (world_size % unit != 0) {
    rules.require(
        false, "parallel.expert",
        "{} ranks do not split into pipeline ({}) x expert ({}) = {}; the nearest numbers of "
        "ranks that do: {}",
        world_size, pipeline, expert, unit, nearest_multiples(world_size, unit));
    return;
  }
  const int64_t data = world_size / pipeline;
  const int64_t batch_unit = data * recipe.train.micro_batch;
  if (recipe.train.global_batch % batch_unit != 0) {
    rules.require(
        false, "train.global_batch",
        "{} sequences do not split over {} ranks with micro_batch = {}; the nearest that do: {}",
        recipe.train.global_batch, data, recipe.train.micro_batch,
        nearest_multiples(recipe.train.global_batch, batch_unit));
    return;
  }
  const int64_t microbatches = num_microbatches(recipe, world_size);
  if (microbatches > kMaxMicrobatches) {
    rules.require(false, "train.global_batch",
                  "{} sequences are {} micro-batches a step and rank, at most {} are planned for; "
                  "use {} sequences or fewer, or a larger micro_batch",
                  recipe.train.global_batch, microbatches, kMaxMicrobatches,
                  kMaxMicrobatches * batch_unit);
    return;
  }
  if (has_stages(recipe.parallel)) check_stages_and_schedule(recipe, microbatches, problems);
  if (problems.empty()) check_ramp(recipe, world_size, rules);
}

void throw_if_any(const Problems& problems) {
  if (!problems.empty()) throw RecipeError(fmt::format("{}", fmt::join(problems, "\n")));
}

}  // namespace

void check_plan_layout(const Recipe& recipe, int64_t world_size) {
  Problems problems;
  check_ranks(recipe, world_size, problems);
  throw_if_any(problems);
}

void check_layout(const Recipe& recipe, int64_t world_size) {
  Problems problems;
  Rules rules(recipe, problems);
  if (problems.empty()) check_ranks(recipe, world_size, problems);
  throw_if_any(problems);
}

}  // namespace strait
