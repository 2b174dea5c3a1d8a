#include <gtest/gtest.h>

#include <algorithm>

#include "core/errors.h"
#include "parallel/pipeline/pairing.h"
#include "parallel/pipeline/schedule_times.h"
#include "tests/parallel/schedule_samples.h"

namespace strait {
namespace {

// The slots of a position without their order and pairs.
std::vector<std::string> work_of(const Schedule& s, int position) {
  std::vector<std::string> work;
  for (const Slot& slot : s.slots[position]) work.push_back(to_string(slot));
  std::ranges::sort(work);
  return work;
}

void expect_same_work(const Schedule& s, const Schedule& paired) {
  EXPECT_NO_THROW(check_schedule(paired)) << s.name;
  EXPECT_EQ(s.chunks, paired.chunks);
  for (int position = 0; position < s.num_positions(); ++position)
    EXPECT_EQ(work_of(s, position), work_of(paired, position)) << s.name;
}

TEST(Pairing, OnePositionWarmsUpByOneForward) {
  const Pairing pairing = pair_schedule(made("1f1b", 1, 4));
  EXPECT_EQ(words(pairing.schedule.slots[0]), "F0.0 F1.0&B0.0 F2.0&B1.0 F3.0&B2.0 B3.0 ");
  EXPECT_DOUBLE_EQ(pairing.makespan_before, 4 * (24.3 + 35.4));
  EXPECT_DOUBLE_EQ(pairing.makespan_after, 24.3 + 3 * 32.3 + 35.4);
  EXPECT_EQ(count_slots(pairing.schedule).peak_live_until_weight, 2);
  EXPECT_EQ(words(pair_schedule(made("1f1b", 1, 1)).schedule.slots[0]), "F0.0 B0.0 ");
}

TEST(Pairing, NeighboursOfOnePositionWithoutMoving) {
  EXPECT_EQ(words(pair_neighbours(made("1f1b", 1, 4)).slots[0]),
            "F0.0 F1.0&B0.0 F2.0&B1.0 F3.0&B2.0 B3.0 ");
  EXPECT_EQ(words(pair_neighbours(made("zb1p", 1, 3)).slots[0]),
            "F0.0 I0.0 W0.0 F1.0 I1.0 W1.0 F2.0 I2.0 W2.0 ");
}

TEST(Pairing, ForwardsMoveUp) {
  const Schedule advanced = advance_forwards(made("1f1b", 2, 4), {2, 1});
  EXPECT_EQ(words(advanced.slots[0]), "F0.0 F1.0 F2.0 F3.0 B0.0 B1.0 B2.0 B3.0 ");
  EXPECT_EQ(words(advanced.slots[1]), "F0.0 F1.0 B0.0 F2.0 B1.0 F3.0 B2.0 B3.0 ");
  EXPECT_EQ(words(advance_forwards(made("zb1p", 1, 3), {1}).slots[0]),
            "F0.0 F1.0 I0.0 W0.0 F2.0 I1.0 W1.0 I2.0 W2.0 ");
}

// Every wait of two neighbouring positions' pairs for each other shows as one pair less, never as a
// stand.
TEST(Pairing, NeverComesToAStand) {
  for (int positions = 1; positions <= 8; ++positions)
    for (int microbatches : {1, 3, positions, 2 * positions, 4 * positions})
      for (const Schedule& s : all_that_fit(positions, microbatches))
        expect_same_work(s, pair_neighbours(s));
  int pairs = 0;
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    const Schedule s = random_schedule(seed);
    ASSERT_NO_THROW(check_schedule(s)) << seed;
    const Schedule paired = pair_neighbours(s);
    expect_same_work(s, paired);
    pairs += count_slots(paired).pairs;
  }
  EXPECT_GT(pairs, 1000);
}

// 1f1b on R positions: with one forward more per position behind, all of the main part is pairs,
// and none waits for the next position's pair of the same time.
TEST(Pairing, OneForwardOneBackwardInAllPairs) {
  const int R = 4, M = 16;
  const Pairing pairing = pair_schedule(made("1f1b", R, M));
  EXPECT_EQ(pairing.per_position, 1);
  EXPECT_EQ(pairing.all, 1);
  for (int position = 0; position < R; ++position) {
    const SlotCounts counts = count_slots(pairing.schedule, position);
    EXPECT_EQ(counts.lone_forwards, 2 * (R - 1 - position) + 1);
    EXPECT_EQ(counts.pairs, M - counts.lone_forwards);
    EXPECT_EQ(counts.peak_live_until_weight, 2 * (R - position));
  }
  EXPECT_LT(pairing.makespan_after, 0.7 * pairing.makespan_before);
}

TEST(Pairing, HelpsEverySchedule) {
  for (int R : {1, 2, 4, 8})
    for (const Schedule& s : all_that_fit(R, 8 * R)) {
      const Pairing pairing = pair_schedule(s);
      expect_same_work(s, pairing.schedule);
      EXPECT_DOUBLE_EQ(pairing.makespan_before, schedule_times(s, published_slot_costs()).makespan);
      EXPECT_DOUBLE_EQ(pairing.makespan_after,
                       schedule_times(pairing.schedule, published_slot_costs()).makespan);
      if (s.name == "dualpipe" || s.name == "dualpipev") {
        EXPECT_LE(pairing.makespan_after, pairing.makespan_before);
        continue;
      }
      EXPECT_LT(pairing.makespan_after, 0.85 * pairing.makespan_before) << s.name << " x " << R;
      EXPECT_GT(count_slots(pairing.schedule).paired_share(), 0.5) << s.name << " x " << R;
    }
}

TEST(Pairing, LeavesAScheduleThatPairsWouldSlow) {
  const SlotCosts loss{.forward = 1, .backward = 2, .weight = 1, .pair = 3.25};
  for (int R : {1, 4})
    for (const Schedule& s : all_that_fit(R, 16)) {
      if (count_slots(s).pairs > 0) continue;
      const Pairing pairing = pair_schedule(s, {.costs = loss});
      for (int position = 0; position < R; ++position)
        EXPECT_EQ(words(pairing.schedule.slots[position]), words(s.slots[position])) << s.name;
      EXPECT_EQ(pairing.makespan_after, pairing.makespan_before);
    }
  const SlotCosts even{.forward = 1, .backward = 2, .weight = 1, .pair = 3};
  EXPECT_EQ(count_slots(pair_schedule(made("1f1b", 1, 4), {.costs = even}).schedule).pairs, 3);
}

TEST(Pairing, HoldsNoMoreLiveThanAllowed) {
  const Schedule s = made("1f1b", 4, 16);
  const Pairing any = pair_schedule(s);
  EXPECT_EQ(count_slots(any.schedule).peak_live_until_weight, 8);
  for (int most : {4, 5, 6, 7}) {
    const Pairing some = pair_schedule(s, {.most_live = most});
    EXPECT_LE(count_slots(some.schedule).peak_live_until_weight, most);
    EXPECT_GE(some.makespan_after, any.makespan_after);
  }
}

}  // namespace
}  // namespace strait
