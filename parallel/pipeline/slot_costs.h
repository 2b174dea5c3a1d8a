// parallel/pipeline/slot_costs.h: how long a slot takes, in any unit of time.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/pipeline/schedule.h"

namespace strait {

// Of one slot, that is one micro-batch through one chunk: in a schedule with v chunks a position,
// 1/v of a position's layers.
struct SlotCosts {
  double forward = 1;              // F
  double backward = 2;             // B: all of it, W included; an input gradient takes B - W
  std::optional<double> weight{};  // W; needed by schedules that split the backward
  std::optional<double>
      pair{};  // FB: a forward and a whole backward as a pair; needed by schedules with pairs
  std::vector<double>
      stage_factors{};  // [stage] its slots take so many times as long; empty: all 1
};

// "F=1,B=2,W=1,FB=3", in any order; F and B at least. RecipeError, beginning with `key`, when it is
// not that.
SlotCosts parse_slot_costs(std::string_view text, const std::string& key);
// "1,1.5,1": stage_factors, one for each stage. RecipeError, beginning with `key`, when it is not
// that.
std::vector<double> parse_stage_factors(std::string_view text, const std::string& key);
// Throws RecipeError when a time that the schedule needs is missing, or times cannot be: all are
// positive, W is below B (an input gradient takes time too) and below FB; one factor per stage, all
// positive. FB may be below B: alone, a backward shows all its transfers.
void require_slot_costs(const SlotCosts& costs, const Schedule& schedule);

// Of a slot, or of the pair that begins with it. A pair of an input gradient takes FB - W, that of
// stages with different factors their mean, weighted with the halves' lone times. REQUIRES:
// require_slot_costs has passed; the slot is not the second of a pair.
double duration_of(const Schedule& schedule, const SlotCosts& costs, int position, int slot);

}  // namespace strait
