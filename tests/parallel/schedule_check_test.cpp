// check_schedule against an independent check, on schedules with one thing changed.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "core/errors.h"
#include "parallel/pipeline/schedule.h"
#include "tests/parallel/schedule_samples.h"

namespace strait {
namespace {

// The rules once more, by brute force: sets of work, and a topological sort of the graph of all
// waits.
bool is_whole(const Schedule& s) {
  using Key = std::tuple<int, int, Work>;  // stage, micro-batch, work
  std::map<Key, int> unit_of;              // a slot, or a pair
  std::vector<std::set<int>> after;        // [unit] units it waits for
  std::vector<std::vector<Key>> work;      // [unit]
  for (int position = 0; position < s.num_positions(); ++position) {
    bool in_pair = false;
    int before = -1;
    for (size_t index = 0; index < s.slots[position].size(); ++index) {
      const Slot& slot = s.slots[position][index];
      if (slot.chunk < 0 || slot.chunk >= static_cast<int>(s.chunks[position].size())) return false;
      const Chunk chunk = s.chunks[position][slot.chunk];
      if (slot.microbatch < 0 || slot.microbatch >= s.num_microbatches) return false;
      if (slot.microbatch / (s.num_microbatches / s.num_copies) != chunk.copy) return false;
      if (in_pair) {
        const Slot& first = s.slots[position][index - 1];
        if (slot.paired || first.work != Work::forward || slot.work == Work::forward ||
            slot.work == Work::weight_gradient || first.microbatch == slot.microbatch)
          return false;
      } else {
        after.emplace_back();
        work.emplace_back();
        if (before >= 0) after.back().insert(before);
        before = static_cast<int>(after.size()) - 1;
      }
      const Key key{chunk.stage, slot.microbatch, slot.work};
      if (!unit_of.emplace(key, before).second) return false;
      work.back().push_back(key);
      in_pair = slot.paired;
    }
    if (in_pair) return false;
  }
  const auto has = [&](int stage, int m, Work w) { return unit_of.contains({stage, m, w}); };
  for (int stage = 0; stage < s.num_stages; ++stage)
    for (int m = 0; m < s.num_microbatches; ++m) {
      if (!has(stage, m, Work::forward)) return false;
      const bool whole = has(stage, m, Work::backward), input = has(stage, m, Work::input_gradient),
                 weight = has(stage, m, Work::weight_gradient);
      if (whole ? input || weight : !input || !weight) return false;
    }
  const auto gradient = [&](int stage, int m) {
    const bool whole = has(stage, m, Work::backward);
    return unit_of.at({stage, m, whole ? Work::backward : Work::input_gradient});
  };
  for (size_t unit = 0; unit < work.size(); ++unit)
    for (const auto& [stage, m, kind] : work[unit]) {
      if (kind == Work::forward) {
        if (stage > 0) after[unit].insert(unit_of.at({stage - 1, m, Work::forward}));
      } else if (kind == Work::weight_gradient) {
        after[unit].insert(gradient(stage, m));
      } else {
        after[unit].insert(unit_of.at({stage, m, Work::forward}));
        if (stage + 1 < s.num_stages) after[unit].insert(gradient(stage + 1, m));
      }
    }
  std::vector<bool> done(after.size());
  for (bool progress = true; progress;) {
    progress = false;
    for (size_t unit = 0; unit < after.size(); ++unit)
      if (!done[unit] && std::ranges::all_of(after[unit], [&](int u) { return done[u]; }))
        progress = done[unit] = true;
  }
  return std::ranges::all_of(done, [](bool d) { return d; });
}

bool passes(const Schedule& s) {
  return message_of<RecipeError>([&] { check_schedule(s); }).empty();
}

struct Tally {
  int caught = 0, harmless = 0;
};

// Every change of one slot of every schedule.
TEST(ScheduleCheck, MutationsAreCaughtOrHarmless) {
  std::map<std::string, std::map<std::string, Tally>> tallies;  // [schedule][change]
  for (const Schedule& s : all_that_fit(4, 8)) {
    ASSERT_TRUE(is_whole(s));
    const auto judge = [&](const char* change, const Schedule& changed) {
      const bool whole = is_whole(changed);
      ASSERT_EQ(passes(changed), whole) << s.name << ": " << change;
      Tally& tally = tallies[s.name][change];
      ++(whole ? tally.harmless : tally.caught);
    };
    for (int position = 0; position < 4; ++position)
      for (int slot = 0; slot < static_cast<int>(s.slots[position].size()); ++slot) {
        const auto change = [&](const char* what, auto edit) {
          Schedule changed = s;
          edit(changed.slots[position]);
          judge(what, changed);
        };
        change("drop", [&](auto& slots) { slots.erase(slots.begin() + slot); });
        change("double", [&](auto& slots) { slots.insert(slots.begin() + slot, slots[slot]); });
        change("pair", [&](auto& slots) { slots[slot].paired = !slots[slot].paired; });
        change("micro-batch", [&](auto& slots) { slots[slot].microbatch ^= 1; });
        change("beyond", [&](auto& slots) { slots[slot].microbatch = 8; });
        change("chunk", [&](auto& slots) { ++slots[slot].chunk; });
        for (int shift : {1, 2, 3})
          change("work", [&](auto& slots) {
            slots[slot].work = static_cast<Work>((static_cast<int>(slots[slot].work) + shift) % 4);
          });
        for (int distance : {1, 2, 3, 5, 8})
          change("swap", [&](auto& slots) {
            if (slot + distance < static_cast<int>(slots.size()))
              std::swap(slots[slot], slots[slot + distance]);
          });
      }
  }
  for (const auto& [name, changes] : tallies)
    for (const auto& [change, tally] : changes)
      EXPECT_GT(tally.caught, 0) << name << ": " << change << ", harmless " << tally.harmless;
}

TEST(ScheduleCheck, ChunksMustBeSomewhereOnce) {
  Schedule s = made("dualpipe", 4, 8);
  s.chunks[3][1] = s.chunks[0][0];
  EXPECT_EQ(message_of<RecipeError>([&] { check_schedule(s); }),
            "schedule dualpipe: position 3: holds stage 0, copy 0, and so does position 0");
  s = made("1f1b", 2, 2);
  s.num_stages = 3;
  EXPECT_EQ(message_of<RecipeError>([&] { check_schedule(s); }),
            "schedule 1f1b: no position holds stage 2, copy 0");
  s = made("1f1b", 2, 2);
  s.chunks.emplace_back();
  s.slots.emplace_back();
  EXPECT_EQ(message_of<RecipeError>([&] { check_schedule(s); }),
            "schedule 1f1b: position 2: holds no stage");
  s = made("1f1b", 2, 2);
  s.slots.pop_back();
  EXPECT_EQ(message_of<RecipeError>([&] { check_schedule(s); }),
            "schedule 1f1b: 2 positions have chunks, 1 have slots");
}

TEST(ScheduleCheck, MessagesNamePositionSlotAndRule) {
  const auto message = [](auto edit) {
    Schedule s = made("1f1b", 2, 2);  // position 0: F0 F1 B0 B1, position 1: F0 B0 F1 B1
    edit(s.slots);
    return message_of<RecipeError>([&] { check_schedule(s); });
  };
  EXPECT_EQ(message([](auto& slots) { slots[0].erase(slots[0].begin()); }),
            "schedule 1f1b: position 0: F0.0 is missing");
  EXPECT_EQ(message([](auto& slots) { slots[1][2].microbatch = 0; }),
            "schedule 1f1b: position 1, slot 2 (F0.0): comes twice; the first is slot 0");
  EXPECT_EQ(message([](auto& slots) { slots[1][3].work = Work::input_gradient; }),
            "schedule 1f1b: position 1: W1.0 is missing");
  EXPECT_EQ(message([](auto& slots) { std::swap(slots[1][0], slots[1][1]); }),
            "schedule 1f1b: position 1, slot 0 (B0.0): comes before its forward");
  EXPECT_EQ(message([](auto& slots) { std::swap(slots[0][1], slots[0][2]); }), "");
  EXPECT_EQ(message([](auto& slots) {
              std::swap(slots[0][1], slots[0][2]);  // B0 F1: needs B0 of position 1 ...
              std::swap(slots[1][1], slots[1][2]);  // ... which now runs after F1
            }),
            "schedule 1f1b: position 0, slot 1 (B0.0): waits for ever for the gradient of stage 1 "
            "at position 1, which waits as well");
  EXPECT_EQ(message([](auto& slots) { slots[0][3].paired = true; }),
            "schedule 1f1b: position 0, slot 3 (B1.0): is the first of a pair that has no second");
}

// A pair has two waits in one: each position's is for the other's result.
TEST(ScheduleCheck, PairsThatWaitForEachOther) {
  Schedule s = made("1f1b", 2, 3);  // F0 F1 B0 F2 B1 B2 and F0 B0 F1 B1 F2 B2
  s.slots[0] = {{Work::forward, 0}, {Work::forward, 1, 0, true}, {Work::backward, 0},
                {Work::forward, 2}, {Work::backward, 1},         {Work::backward, 2}};
  check_schedule(s);
  s.slots[1] = {{Work::forward, 0},  {Work::forward, 1, 0, true}, {Work::backward, 0},
                {Work::backward, 1}, {Work::forward, 2},          {Work::backward, 2}};
  EXPECT_EQ(message_of<RecipeError>([&] { check_schedule(s); }),
            "schedule 1f1b: position 0, slot 2 (B0.0): waits for ever for the gradient of stage 1 "
            "at position 1, which waits as well");
}

}  // namespace
}  // namespace strait
