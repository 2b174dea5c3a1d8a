#include "parallel/pipeline/pairing.h"

#include <algorithm>
#include <optional>

#include "core/errors.h"
#include "parallel/pipeline/run_slots.h"
#include "parallel/pipeline/schedule_times.h"

namespace strait {
namespace {

bool is_gradient(Work work) { return work == Work::backward || work == Work::input_gradient; }

bool may_pair(const Slot& one, const Slot& other) {
  return !other.paired && one.microbatch != other.microbatch &&
         ((one.work == Work::forward && is_gradient(other.work)) ||
          (is_gradient(one.work) && other.work == Work::forward));
}

// A schedule under way, and of each slot whether it begins a pair made here whose halves were
// swapped, or were not.
enum class Made : uint8_t { no, in_order, swapped };
struct Paired {
  Schedule schedule;
  std::vector<std::vector<Made>> made;
};

Paired pair_all(const Schedule& schedule) {
  Paired paired{schedule, {}};
  for (std::vector<Slot>& slots : paired.schedule.slots) {
    std::vector<Made>& made = paired.made.emplace_back(slots.size(), Made::no);
    for (size_t slot = 0; slot + 1 < slots.size(); ++slot) {
      const bool had = slots[slot].paired;
      if (!had && !may_pair(slots[slot], slots[slot + 1])) continue;
      if (!had) {
        made[slot] = slots[slot].work == Work::forward ? Made::in_order : Made::swapped;
        if (made[slot] == Made::swapped) std::swap(slots[slot], slots[slot + 1]);
        slots[slot].paired = true;
      }
      ++slot;  // the pair's second
    }
  }
  return paired;
}

// Takes one pair apart whose half that came first could run by itself, and returns its position; -1
// where there is none.
int take_one_apart(Paired& paired, const SlotRun& run) {
  for (size_t position = 0; position < paired.made.size(); ++position) {
    const size_t slot = run.next_slot[position];
    if (slot >= paired.made[position].size()) continue;
    Made& made = paired.made[position][slot];
    if (made == Made::no || !run.next_ready[position][made == Made::swapped ? 1 : 0]) continue;
    std::vector<Slot>& slots = paired.schedule.slots[position];
    slots[slot].paired = false;
    if (made == Made::swapped) std::swap(slots[slot], slots[slot + 1]);
    made = Made::no;
    return static_cast<int>(position);
  }
  return -1;
}

bool has_pairs(const Schedule& schedule) { return count_slots(schedule).pairs > 0; }

struct Rated {
  Schedule schedule;
  double makespan = 0;
  int pairs = 0, live = 0;
};

Rated rate(Schedule schedule, const SlotCosts& costs) {
  const SlotCounts counts = count_slots(schedule);
  const double makespan = schedule_times(schedule, costs).makespan;
  return {std::move(schedule), makespan, counts.pairs, counts.peak_live_until_weight};
}

bool better(const Rated& one, const Rated& other) {
  constexpr double kSame = 1e-9;  // makespans that differ by rounding alone
  if (one.makespan < other.makespan * (1 - kSame)) return true;
  if (one.makespan > other.makespan * (1 + kSame)) return false;
  return one.pairs != other.pairs ? one.pairs > other.pairs : one.live < other.live;
}

std::vector<int> extra_forwards(int num_positions, int per_position, int all) {
  std::vector<int> extra;
  extra.reserve(static_cast<size_t>(num_positions));
  for (int position = 0; position < num_positions; ++position)
    extra.push_back(per_position * (num_positions - 1 - position) + all);
  return extra;
}

}  // namespace

Schedule pair_neighbours(const Schedule& schedule) {
  Paired paired = pair_all(schedule);
  // Of the slots that are left when all stand still, the first in the order of the schedule as
  // given could run. Thus it is in a pair made here, and the half that came first: there is always
  // one to take apart, until all run.
  const SlotRun run = run_slots(
      paired.schedule, [&](const SlotRun& stand) { return take_one_apart(paired, stand); });
  STRAIT_CHECK(run.finished(), "schedule " + schedule.name + " comes to a stand");
  return std::move(paired.schedule);
}

Schedule advance_forwards(const Schedule& schedule, const std::vector<int>& extra) {
  Schedule advanced = schedule;
  for (int position = 0; position < schedule.num_positions(); ++position) {
    const std::vector<Slot>& slots = schedule.slots[position];
    std::vector<Slot> forwards;
    for (const Slot& slot : slots) {
      STRAIT_CHECK(!slot.paired, "forwards of a schedule with pairs do not move");
      if (slot.work == Work::forward) forwards.push_back(slot);
    }
    const size_t ahead = std::min<size_t>(extra[position], forwards.size());
    std::vector<Slot>& moved = advanced.slots[position];
    moved.assign(forwards.begin(), forwards.begin() + ahead);
    size_t next = ahead;
    for (const Slot& slot : slots)
      if (slot.work != Work::forward)
        moved.push_back(slot);
      else if (next < forwards.size())
        moved.push_back(forwards[next++]);
  }
  return advanced;
}

Pairing pair_schedule(const Schedule& schedule, const PairingOptions& options) {
  Rated best = rate(schedule, options.costs);
  Pairing pairing{.makespan_before = best.makespan};
  const bool may_move = !has_pairs(schedule);
  constexpr int kMostPerPosition = 2, kMostAll = 2;
  for (int per_position = 0; per_position <= (may_move ? kMostPerPosition : 0); ++per_position)
    for (int all = 0; all <= (may_move ? kMostAll : 0); ++all) {
      const Schedule advanced =
          may_move ? advance_forwards(schedule,
                                      extra_forwards(schedule.num_positions(), per_position, all))
                   : schedule;
      if (!run_slots(advanced).finished()) continue;
      Rated rated = rate(pair_neighbours(advanced), options.costs);
      if (options.most_live > 0 && rated.live > options.most_live) continue;
      if (rated.pairs == 0 || !better(rated, best)) continue;
      best = std::move(rated);
      pairing.per_position = per_position;
      pairing.all = all;
    }
  pairing.schedule = std::move(best.schedule);
  pairing.makespan_after = best.makespan;
  return pairing;
}

}  // namespace strait
