#include "parallel/pipeline/schedule_times.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/errors.h"
#include "tests/parallel/schedule_samples.h"

namespace strait {
namespace {

const SlotCosts kUnits{.forward = 1, .backward = 2, .weight = 1, .pair = 3};

// F and G = input gradient, W, and what a pair saves: powers of two, so that sums are exact.
SlotCosts costs_of(double forward, double input, double weight, double saved) {
  return {.forward = forward,
          .backward = input + weight,
          .weight = weight,
          .pair = forward + input + weight - saved};
}

double largest_bubble(const Schedule& s, const SlotCosts& costs) {
  const ScheduleTimes times = schedule_times(s, costs);
  double bubble = 0;
  for (int position = 0; position < s.num_positions(); ++position)
    bubble = std::max(bubble, times.bubble(position));
  return bubble;
}

TEST(ScheduleTimes, DualPipeGoldens) {
  for (auto [positions, microbatches, makespan, bubble, peak] :
       {std::tuple{8, 20, 66.0, 6.0, 9}, {16, 120, 374.0, 14.0, 17}}) {
    const Schedule s = made("dualpipe", positions, microbatches);
    const ScheduleTimes times = schedule_times(s, kUnits);
    EXPECT_EQ(times.makespan, makespan);
    for (int position = 0; position < positions; ++position)
      EXPECT_EQ(times.bubble(position), bubble) << position;
    EXPECT_EQ(count_slots(s).peak_live_until_backward, peak);
  }
}

TEST(ScheduleTimes, DualPipeCountsOf16Positions120Microbatches) {
  const Schedule s = made("dualpipe", 16, 120);
  for (int position : {0, 15}) {
    const SlotCounts counts = count_slots(s, position);
    EXPECT_EQ(counts.pairs, 97);
    EXPECT_EQ(counts.lone_forwards, 23);
    EXPECT_EQ(counts.lone_backwards + counts.lone_input_gradients, 23);
    EXPECT_EQ(counts.weight_gradients, 15);
    EXPECT_DOUBLE_EQ(counts.paired_share(), 194.0 / 240);
  }
  for (int position : {7, 8}) {
    const SlotCounts counts = count_slots(s, position);
    EXPECT_EQ(counts.pairs, 103);
    EXPECT_EQ(counts.lone_forwards, 17);
    EXPECT_EQ(counts.lone_backwards + counts.lone_input_gradients, 17);
    EXPECT_EQ(counts.weight_gradients, 8);
  }
}

// Pairs that take less than their halves: end positions 3.5, those of the middle 4.5, the
// formula 4.5.
TEST(ScheduleTimes, DualPipeWithShorterPairs) {
  SlotCosts costs = kUnits;
  costs.pair = 2.5;
  const ScheduleTimes times = schedule_times(made("dualpipe", 8, 20), costs);
  EXPECT_DOUBLE_EQ(times.bubble(0), 3.5);
  EXPECT_DOUBLE_EQ(times.bubble(3), 4.5);
}

TEST(ScheduleTimes, BubblesAreThoseOfTheFormulas) {
  for (int positions = 1; positions <= 16; ++positions)
    for (int microbatches : {positions, 2 * positions, 4 * positions, 6 * positions}) {
      for (const SlotCosts& c : {kUnits, costs_of(1, 1.25, 0.75, 0), costs_of(2, 1.5, 1.25, 0),
                                 costs_of(2, 2, 1, 0), costs_of(1, 1, 0.5, 0)}) {
        const double F = c.forward, B = c.backward, W = *c.weight, FB = *c.pair;
        const int R = positions;
        EXPECT_DOUBLE_EQ(largest_bubble(made("1f1b", R, microbatches), c), (R - 1) * (F + B));
        EXPECT_DOUBLE_EQ(largest_bubble(made("zb1p", R, microbatches), c),
                         (R - 1) * (F + B - 2 * W))
            << R << " x " << microbatches;
        for (int v : {2, 4}) {  // F and B of a whole position's layers, cut into v chunks
          const SlotCosts chunk{.forward = F / v, .backward = B / v};
          EXPECT_DOUBLE_EQ(largest_bubble(made("interleaved", R, microbatches, v), chunk),
                           (R - 1) * (F + B) / v);
        }
        if (microbatches < 2 * R || F != B - W) continue;  // those of DualPipe take F = I
        EXPECT_DOUBLE_EQ(largest_bubble(made("dualpipev", R, microbatches), c),
                         (R - 1) * (FB + B - 3 * W));
        if (R % 2 != 0) continue;
        EXPECT_DOUBLE_EQ(largest_bubble(made("dualpipe", R, microbatches), c),
                         (R / 2 - 1) * (FB + B - 3 * W));
      }
    }
}

TEST(ScheduleTimes, BubbleOfZb1pForAnyTimes) {
  for (int R : {1, 2, 5, 8})
    for (int M : {R, 3 * R, 40})
      for (double F : {0.5, 1.0, 2.0})
        for (double I : {0.75, 1.0, 3.0})
          for (double W : {0.25, 1.0, 2.5})
            EXPECT_DOUBLE_EQ(largest_bubble(made("zb1p", R, M), costs_of(F, I, W, 0)),
                             (R - 1) * (F + I - std::min({F, I, W})))
                << R << " x " << M << ": " << F << ' ' << I << ' ' << W;
}

// With F = I = W a position never waits once it has begun, and position r begins at r.
TEST(ScheduleTimes, ZbvHasNoBubbleBeyondTheRamp) {
  for (int positions = 1; positions <= 16; ++positions)
    for (int microbatches : {2 * positions - 1, 2 * positions, 3 * positions + 1, 60}) {
      const Schedule s = made("zbv", positions, microbatches);
      const ScheduleTimes times = schedule_times(s, kUnits);
      EXPECT_EQ(times.makespan, 6.0 * microbatches + positions - 1);
      for (int position = 0; position < positions; ++position) {
        EXPECT_EQ(times.slots[position].front().start, position);
        EXPECT_EQ(times.slots[position].back().end - position, times.busy[position]);
      }
    }
}

TEST(ScheduleTimes, PeakLive) {
  for (int R = 1; R <= 16; ++R) {
    const int M = 4 * R;
    const auto counts = [&](const char* name) { return count_slots(made(name, R, M)); };
    EXPECT_EQ(counts("1f1b").peak_live_until_backward, R);
    EXPECT_EQ(counts("1f1b").peak_live_until_weight, R);
    EXPECT_EQ(counts("zb1p").peak_live_until_backward, R);
    EXPECT_EQ(counts("zb1p").peak_live_until_weight, R);
    EXPECT_EQ(counts("zbv").peak_live_until_weight, 2 * R);
    EXPECT_EQ(counts("dualpipev").peak_live_until_backward, 2 * R + 1);
    if (R % 2 == 0) {
      EXPECT_EQ(counts("dualpipe").peak_live_until_backward, R + 1);
    }
    for (int position = 0; position < R; ++position)
      EXPECT_EQ(count_slots(made("1f1b", R, M), position).peak_live_until_backward, R - position);
  }
}

// The same times by relaxation: every unit (slot or pair) starts at the largest end among what it
// waits for, applied again and again until nothing changes.
std::vector<std::vector<double>> relaxed_starts(const Schedule& s, const SlotCosts& costs) {
  std::vector<std::vector<double>> starts;
  for (const auto& slots : s.slots) starts.emplace_back(slots.size(), 0.0);
  const auto end_of = [&](int position, int slot) {
    const bool second = slot > 0 && s.slots[position][slot - 1].paired;
    const int first = second ? slot - 1 : slot;
    return starts[position][first] + duration_of(s, costs, position, first);
  };
  const auto end_of_work = [&](int stage, int microbatch, bool forward) {
    for (int position = 0; position < s.num_positions(); ++position)
      for (int slot = 0; slot < static_cast<int>(s.slots[position].size()); ++slot) {
        const Slot& other = s.slots[position][slot];
        const bool same_kind =
            forward ? other.work == Work::forward
                    : other.work == Work::backward || other.work == Work::input_gradient;
        if (same_kind && other.microbatch == microbatch &&
            s.chunks[position][other.chunk].stage == stage)
          return end_of(position, slot);
      }
    return 0.0;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (int position = 0; position < s.num_positions(); ++position)
      for (int slot = 0; slot < static_cast<int>(s.slots[position].size()); ++slot) {
        const auto& slots = s.slots[position];
        const bool second = slot > 0 && slots[slot - 1].paired;
        const int stage = s.chunks[position][slots[slot].chunk].stage, m = slots[slot].microbatch;
        double start = second || slot == 0 ? 0 : end_of(position, slot - 1);
        if (slots[slot].work == Work::forward && stage > 0)
          start = std::max(start, end_of_work(stage - 1, m, true));
        if (slots[slot].work == Work::backward || slots[slot].work == Work::input_gradient)
          start = std::max({start, end_of_work(stage, m, true),
                            stage + 1 < s.num_stages ? end_of_work(stage + 1, m, false) : 0.0});
        if (slots[slot].work == Work::weight_gradient)
          start = std::max(start, end_of_work(stage, m, false));
        double& kept = starts[position][second ? slot - 1 : slot];
        changed = changed || start > kept;
        kept = std::max(kept, start);
      }
  }
  return starts;
}

TEST(ScheduleTimes, EqualToRelaxation) {
  std::mt19937 random(7);
  for (int positions : {1, 2, 3, 4})
    for (const Schedule& s : all_that_fit(positions, 2 * positions)) {
      SlotCosts costs = costs_of(1, 1.5, 0.75, 0.5);
      for (int stage = 0; stage < s.num_stages; ++stage)
        costs.stage_factors.push_back(0.5 + static_cast<double>(random() % 8) / 4);
      const ScheduleTimes times = schedule_times(s, costs);
      const auto starts = relaxed_starts(s, costs);
      for (int position = 0; position < positions; ++position)
        for (size_t slot = 0; slot < s.slots[position].size();
             slot += s.slots[position][slot].paired ? 2 : 1)
          ASSERT_DOUBLE_EQ(times.slots[position][slot].start, starts[position][slot])
              << s.name << ", position " << position << ", slot " << slot;
    }
}

TEST(ScheduleTimes, StageFactorsStretchTheirStage) {
  SlotCosts costs{.forward = 1, .backward = 2};
  costs.stage_factors = {1, 3};
  const ScheduleTimes times = schedule_times(made("1f1b", 2, 4), costs);
  EXPECT_DOUBLE_EQ(times.busy[0], 12);
  EXPECT_DOUBLE_EQ(times.busy[1], 36);
  EXPECT_DOUBLE_EQ(times.makespan, 1 + 36 + 2);
}

TEST(SlotCosts, Parsed) {
  const SlotCosts costs = parse_slot_costs("W=0.5,F=1,FB=2.75,B=2e0", "--times");
  EXPECT_EQ(costs.forward, 1);
  EXPECT_EQ(costs.backward, 2);
  EXPECT_EQ(costs.weight, 0.5);
  EXPECT_EQ(costs.pair, 2.75);
  EXPECT_FALSE(parse_slot_costs("F=1,B=2", "--times").weight.has_value());
}

TEST(SlotCosts, BadTextIsOneError) {
  const std::string form = "; it reads like F=1,B=2,W=1,FB=3, in any unit";
  for (const auto& [text, why] : std::vector<std::pair<std::string, std::string>>{
           {"", "'' has no '='"},
           {"F=1,,B=2", "'' has no '='"},
           {"F=1,B=2,", "'' has no '='"},
           {"F1,B=2", "'F1' has no '='"},
           {"F=1", "B is missing"},
           {"B=1,FB=2", "F is missing"},
           {"F=1,B=2,I=1", "there is no time 'I', only F, B, W and FB"},
           {"f=1,B=2", "there is no time 'f', only F, B, W and FB"},
           {"F=1,B=2,F=1", "F comes twice"},
           {"F=1,B=2s", "B = '2s' is not a number above 0"},
           {"F= 1,B=2", "F = ' 1' is not a number above 0"},
           {"F=0,B=2", "F = '0' is not a number above 0"},
           {"F=-1,B=2", "F = '-1' is not a number above 0"},
           {"F=nan,B=2", "F = 'nan' is not a number above 0"},
           {"F=inf,B=2", "F = 'inf' is not a number above 0"},
           {"F=1e999,B=2", "F = '1e999' is not a number above 0"},
           {"F=,B=2", "F = '' is not a number above 0"}})
    EXPECT_EQ(message_of<RecipeError>([&] { parse_slot_costs(text, "--times"); }),
              "--times '" + text + "': " + why + form);
}

TEST(SlotCosts, TimesThatCannotBe) {
  const auto refusal = [](const char* name, const SlotCosts& costs) {
    const Schedule s = made(name, 2, 4);
    return message_of<RecipeError>([&] { schedule_times(s, costs); });
  };
  EXPECT_EQ(refusal("zb1p", {.forward = 1, .backward = 2}),
            "schedule zb1p splits the backward: it needs a time W, below B = 2 (B is all of it)");
  EXPECT_EQ(refusal("dualpipe", {.forward = 1, .backward = 2, .weight = 1}),
            "schedule dualpipe has pairs: it needs a time FB, that of a forward and a backward "
            "together");
  EXPECT_EQ(refusal("zb1p", {.forward = 1, .backward = 2, .weight = 2}),
            "time W = 2: must be below B = 2, the whole backward");
  EXPECT_EQ(refusal("dualpipe", {.forward = 1, .backward = 2, .weight = 1, .pair = 1}),
            "time FB = 1: must be above W = 1, which is a part of it");
  EXPECT_EQ(refusal("1f1b", {.forward = 1, .backward = 2, .stage_factors = {1, 1, 1}}),
            "3 stage costs: the schedule has 2 stages and needs one for each");
  EXPECT_EQ(refusal("1f1b", {.forward = 1, .backward = 2, .stage_factors = {1, 0}}),
            "time of a stage = 0: must be above 0");
}

}  // namespace
}  // namespace strait
