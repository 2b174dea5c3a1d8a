#include "parallel/pipeline/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/errors.h"
#include "parallel/pipeline/schedules.h"
#include "tests/parallel/schedule_samples.h"

namespace strait {
namespace {

TEST(Schedule, OneForwardOneBackward) {
  const Schedule s = made("1f1b", 3, 4);
  EXPECT_EQ(words(s.slots[0]), "F0.0 F1.0 F2.0 B0.0 F3.0 B1.0 B2.0 B3.0 ");
  EXPECT_EQ(words(s.slots[2]), "F0.0 B0.0 F1.0 B1.0 F2.0 B2.0 F3.0 B3.0 ");
  EXPECT_EQ(words(made("1f1b", 1, 2).slots[0]), "F0.0 B0.0 F1.0 B1.0 ");
}

TEST(Schedule, DualPipeSmallest) {
  const Schedule s = made("dualpipe", 2, 4);
  EXPECT_EQ(words(s.slots[0]), "F0.0 F2.1 F1.0 B2.1 F3.1&B0.0 B3.1 I1.0 W1.0 ");
  EXPECT_EQ(words(s.slots[1]), "F2.1 F0.0 F3.1 B0.0 F1.0&B2.1 B1.0 I3.1 W3.1 ");
  EXPECT_EQ(s.place_of(0, 1).position, 1);
  EXPECT_EQ(s.place_of(0, 1).chunk, 1);
}

// By hand from the published steps; with 8 positions and 20 micro-batches position 0 takes all that
// are not empty.
TEST(Schedule, DualPipeEndsOfTheFirstRow) {
  const std::string row = words(made("dualpipe", 8, 20).slots[0]);
  EXPECT_EQ(row.substr(0, row.find("I10.1 W10.1")), "F0.0 F1.0 F2.0 F3.0 F4.0 F5.0 F6.0 F10.1 ");
  EXPECT_TRUE(row.ends_with("B19.1 I6.0 W6.0 I7.0 W7.0 I8.0 W8.0 I9.0 W9.0 ")) << row;
}

TEST(Schedule, DualPipeVHasTheTurnOnTheLastPosition) {
  const Schedule s = made("dualpipev", 2, 4);
  EXPECT_EQ(s.chunks[1], (std::vector<Chunk>{{1, 0}, {2, 0}}));
  EXPECT_EQ(words(s.slots[1]),
            "F0.0 F0.1 F1.0 F1.1 F2.0 B0.1 F2.1&B0.0 F3.0&B1.1 F3.1&B1.0 B2.1 B2.0 I3.1 I3.0 "
            "W3.1 W3.0 ");
}

TEST(Schedule, InterleavedGoesRoundByRound) {
  EXPECT_EQ(words(made("interleaved", 2, 4, 2).slots[0]),
            "F0.0 F1.0 F0.1 F1.1 F2.0 B0.1 F3.0 B1.1 F2.1 B0.0 F3.1 B1.0 B2.1 B3.1 B2.0 B3.0 ");
  EXPECT_EQ(made("interleaved", 2, 4, 3).chunks[1], (std::vector<Chunk>{{1, 0}, {3, 0}, {5, 0}}));
}

TEST(Schedule, Zb1pPutsWeightGradientsOffByThePosition) {
  const Schedule s = made("zb1p", 3, 4);
  EXPECT_EQ(words(s.slots[0]), "F0.0 F1.0 F2.0 I0.0 W0.0 F3.0 I1.0 W1.0 I2.0 W2.0 I3.0 W3.0 ");
  EXPECT_EQ(words(s.slots[2]), "F0.0 I0.0 F1.0 I1.0 F2.0 I2.0 W0.0 F3.0 I3.0 W1.0 W2.0 W3.0 ");
}

TEST(Schedule, WholeForEveryNumberOfPositions) {
  for (int positions = 1; positions <= 16; ++positions)
    for (int microbatches : {1, 2, 3, 5, 8, positions, 2 * positions - 1, 2 * positions,
                             2 * positions + 1, 2 * positions + 2, 3 * positions, 40, 120})
      for (const Schedule& s : all_that_fit(positions, microbatches)) {
        EXPECT_NO_THROW(check_schedule(s)) << positions << " x " << microbatches;
        EXPECT_EQ(s.num_positions(), positions);
        EXPECT_EQ(s.num_microbatches, microbatches);
      }
}

// The order in which a chunk's gradients are summed must not depend on the schedule.
TEST(Schedule, GradientsOfAChunkComeInTheOrderOfMicrobatches) {
  for (int positions : {1, 2, 4, 8})
    for (int microbatches : {positions, 4 * positions})
      for (const Schedule& s : all_that_fit(positions, microbatches))
        for (int position = 0; position < positions; ++position)
          for (int chunk = 0; chunk < static_cast<int>(s.chunks[position].size()); ++chunk) {
            std::vector<int> order;
            for (const Slot& slot : s.slots[position])
              if (slot.chunk == chunk &&
                  (slot.work == Work::backward || slot.work == Work::weight_gradient))
                order.push_back(slot.microbatch);
            EXPECT_TRUE(std::ranges::is_sorted(order)) << s.name << ", position " << position;
          }
}

TEST(Schedule, RefusalsNameKeyRuleAndNearest) {
  const auto refusal = [](const char* name, ScheduleOptions options) {
    const std::string text = message_of<RecipeError>([&] { make_schedule(name, options); });
    EXPECT_EQ(message_of<RecipeError>([&] { require_schedule(name, options); }), text);
    return text;
  };
  EXPECT_EQ(refusal("dualpipe", {.positions = 7, .microbatches = 20, .positions_key = "--ranks"}),
            "--ranks = 7: dualpipe needs an even number, as the copies of a stage are at mirrored "
            "positions; the nearest that works: 6 or 8");
  EXPECT_EQ(refusal("dualpipe", {.positions = 8, .microbatches = 14}),
            "micro_batches = 14: dualpipe needs at least two for each of its 8 positions; the "
            "nearest that works: 16");
  EXPECT_EQ(refusal("dualpipe", {.positions = 8, .microbatches = 21}),
            "micro_batches = 21: dualpipe needs an even number, half of them for each direction; "
            "the nearest that works: 20 or 22");
  EXPECT_EQ(refusal("dualpipev", {.positions = 4, .microbatches = 7}),
            "micro_batches = 7: dualpipev needs at least two for each of its 4 positions; the "
            "nearest that works: 8");
  EXPECT_EQ(refusal("interleaved", {.positions = 4, .microbatches = 10}),
            "micro_batches = 10: interleaved needs a multiple of its 4 positions; the nearest "
            "that works: 8 or 12");
  EXPECT_EQ(refusal("interleaved", {.positions = 4, .microbatches = 3}),
            "micro_batches = 3: interleaved needs a multiple of its 4 positions; the nearest that "
            "works: 4");
  EXPECT_EQ(refusal("interleaved", {.positions = 4, .microbatches = 8, .chunks = 1}),
            "chunks = 1: interleaved needs 2 or more at each position (with 1 it is 1f1b); the "
            "nearest that works: 2");
  EXPECT_EQ(refusal("zbv", {.positions = 4, .microbatches = 8, .chunks = 3}),
            "chunks = 3: zbv has 2 at each position, always; the nearest that works: 2");
  EXPECT_EQ(refusal("1f1b", {.positions = 0, .microbatches = 8}),
            "positions = 0: 1f1b takes 1 to 1024; the nearest that works: 1");
  EXPECT_EQ(refusal("1f1b", {.positions = 2, .microbatches = -1}),
            "micro_batches = -1: 1f1b takes 1 to 1048576; the nearest that works: 1");
  EXPECT_EQ(refusal("dualpipe", {.positions = 1024, .microbatches = 2050}),
            "micro_batches = 2050: dualpipe takes 2048 at most with 1024 positions of 2 chunks: "
            "4194304 passes in all; the nearest that works: 2048");
  EXPECT_EQ(refusal("gpipe", {}),
            "there is no schedule 'gpipe'; there are 1f1b, interleaved, zb1p, zbv, dualpipe, "
            "dualpipev");
}

}  // namespace
}  // namespace strait
