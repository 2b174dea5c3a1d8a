#include "parallel/pipeline/schedule.h"

#include <gtest/gtest.h>

#include "core/errors.h"
#include "parallel/pipeline/schedules.h"

namespace strait {
namespace {

Schedule made(const char* name, int positions, int microbatches, int chunks = 0) {
  return make_schedule(name,
                       {.positions = positions, .microbatches = microbatches, .chunks = chunks});
}

std::string words(const std::vector<Slot>& slots) {
  std::string text;
  for (const Slot& slot : slots) text += to_string(slot) + (slot.paired ? "&" : " ");
  return text;
}

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

TEST(Schedule, EveryScheduleIsWhole) {
  for (int positions = 1; positions <= 16; ++positions)
    for (int microbatches : {1, 2, 3, 5, 8, 2 * positions, 2 * positions + 2, 40}) {
      for (const char* name : {"1f1b", "zb1p", "zbv"})
        check_schedule(made(name, positions, microbatches));
      if (microbatches % positions == 0)
        for (int chunks : {2, 3, 4})
          check_schedule(made("interleaved", positions, microbatches, chunks));
      if (microbatches < 2 * positions) continue;
      check_schedule(made("dualpipev", positions, microbatches));
      if (positions % 2 == 0 && microbatches % 2 == 0)
        check_schedule(made("dualpipe", positions, microbatches));
    }
}

}  // namespace
}  // namespace strait
