#include "parallel/pipeline/slot_costs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/errors.h"

namespace strait {
namespace {

constexpr std::string_view kNames[] = {"F", "B", "W", "FB"};
constexpr int kF = 0, kB = 1, kW = 2, kFB = 3;

constexpr std::string_view kTimesForm = "F=1,B=2,W=1,FB=3, in any unit";
constexpr std::string_view kFactorsForm =
    "1,1.5,1: for each stage how many times as long its slots take";

[[noreturn]] void fail(const std::string& key, std::string_view text, const std::string& why,
                       std::string_view form) {
  throw RecipeError(fmt::format("{} '{}': {}; it reads like {}", key, text, why, form));
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t comma; (comma = text.find(',')) != text.npos; text.remove_prefix(comma + 1))
    words.push_back(text.substr(0, comma));
  words.push_back(text);
  return words;
}

// Above 0 and finite.
std::optional<double> number_of(std::string_view word) {
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || !std::isfinite(value) ||
      value <= 0)
    return std::nullopt;
  return value;
}

double lone_time(const SlotCosts& costs, Work work) {
  switch (work) {
    case Work::forward:
      return costs.forward;
    case Work::backward:
      return costs.backward;
    case Work::input_gradient:
      return costs.backward - *costs.weight;
    case Work::weight_gradient:
      return *costs.weight;
  }
  return 0;
}

void require_positive(const char* name, double time) {
  if (!(time > 0) || !std::isfinite(time))
    throw RecipeError(fmt::format("time {} = {}: must be above 0", name, time));
}

void require_needed(const SlotCosts& costs, const Schedule& schedule) {
  for (const std::vector<Slot>& slots : schedule.slots)
    for (const Slot& slot : slots) {
      if (!costs.weight &&
          (slot.work == Work::weight_gradient || slot.work == Work::input_gradient))
        throw RecipeError(fmt::format(
            "schedule {} splits the backward: it needs a time W, below B = {} (B is all of it)",
            schedule.name, costs.backward));
      if (!costs.pair && slot.paired)
        throw RecipeError(fmt::format(
            "schedule {} has pairs: it needs a time FB, that of a forward and a backward together",
            schedule.name));
    }
}

void require_factors(const SlotCosts& costs, int num_stages) {
  if (costs.stage_factors.empty()) return;
  if (static_cast<int>(costs.stage_factors.size()) != num_stages)
    throw RecipeError(
        fmt::format("{} stage costs: the schedule has {} stages and needs one for each",
                    costs.stage_factors.size(), num_stages));
  for (double factor : costs.stage_factors) require_positive("of a stage", factor);
}

}  // namespace

SlotCosts parse_slot_costs(std::string_view text, const std::string& key) {
  std::optional<double> times[4];
  for (const std::string_view word : split(text)) {
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos)
      fail(key, text, fmt::format("'{}' has no '='", word), kTimesForm);
    const std::string_view name = word.substr(0, equals), number = word.substr(equals + 1);
    const auto* found = std::ranges::find(kNames, name);
    if (found == std::end(kNames))
      fail(key, text, fmt::format("there is no time '{}', only F, B, W and FB", name), kTimesForm);
    std::optional<double>& time = times[found - kNames];
    if (time) fail(key, text, fmt::format("{} comes twice", name), kTimesForm);
    time = number_of(number);
    if (!time)
      fail(key, text, fmt::format("{} = '{}' is not a number above 0", name, number), kTimesForm);
  }
  for (int name : {kF, kB})
    if (!times[name]) fail(key, text, fmt::format("{} is missing", kNames[name]), kTimesForm);
  return {.forward = *times[kF], .backward = *times[kB], .weight = times[kW], .pair = times[kFB]};
}

std::vector<double> parse_stage_factors(std::string_view text, const std::string& key) {
  std::vector<double> factors;
  for (const std::string_view word : split(text)) {
    const std::optional<double> factor = number_of(word);
    if (!factor) fail(key, text, fmt::format("'{}' is not a number above 0", word), kFactorsForm);
    factors.push_back(*factor);
  }
  return factors;
}

void require_slot_costs(const SlotCosts& costs, const Schedule& schedule) {
  require_positive("F", costs.forward);
  require_positive("B", costs.backward);
  if (costs.weight) require_positive("W", *costs.weight);
  require_needed(costs, schedule);
  if (costs.pair) require_positive("FB", *costs.pair);
  if (costs.weight && *costs.weight >= costs.backward)
    throw RecipeError(fmt::format("time W = {}: must be below B = {}, the whole backward",
                                  *costs.weight, costs.backward));
  if (costs.weight && costs.pair && *costs.weight >= *costs.pair)
    throw RecipeError(fmt::format("time FB = {}: must be above W = {}, which is a part of it",
                                  *costs.pair, *costs.weight));
  require_factors(costs, schedule.num_stages);
}

double duration_of(const Schedule& schedule, const SlotCosts& costs, int position, int slot) {
  const auto lone = [&](const Slot& s) {
    const int stage = schedule.chunks[position][s.chunk].stage;
    return lone_time(costs, s.work) *
           (costs.stage_factors.empty() ? 1 : costs.stage_factors[stage]);
  };
  const Slot& first = schedule.slots[position][slot];
  if (!first.paired) return lone(first);
  const Slot& second = schedule.slots[position][slot + 1];
  const double together = second.work == Work::backward ? *costs.pair : *costs.pair - *costs.weight;
  const double apart = lone_time(costs, first.work) + lone_time(costs, second.work);
  return (lone(first) + lone(second)) * (together / apart);
}

}  // namespace strait
