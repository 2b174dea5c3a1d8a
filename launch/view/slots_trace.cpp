#include "launch/view/slots_trace.h"

#include <array>
#include <utility>

#include "core/errors.h"

namespace strait {
namespace {

struct SlotKind {
  const char* kind;
  Pass pass;
};

SlotKind kind_of(Work work) {
  static constexpr std::array kKinds = {SlotKind{"forward", Pass::forward},
                                        SlotKind{"backward", Pass::input_gradient},
                                        SlotKind{"input_gradient", Pass::input_gradient},
                                        SlotKind{"weight_gradient", Pass::weight_gradient}};
  return kKinds[static_cast<size_t>(work)];
}

}  // namespace

Trace trace_of_slots(std::string title, const Schedule& schedule,
                     const std::vector<std::vector<SlotTime>>& times) {
  STRAIT_CHECK(times.size() == schedule.slots.size(), "slot times of another schedule");
  Trace trace{.title = std::move(title), .predicted = true, .spans = {}, .relative = true};
  for (size_t position = 0; position < schedule.slots.size(); ++position) {
    const std::vector<Slot>& slots = schedule.slots[position];
    STRAIT_CHECK(times[position].size() == slots.size(), "slot times of another schedule");
    int num_pairs = 0;
    for (size_t index = 0; index < slots.size(); ++index) {
      const Slot& slot = slots[index];
      const bool is_second = index > 0 && slots[index - 1].paired;
      if (slot.paired) ++num_pairs;
      const auto [kind, pass] = kind_of(slot.work);
      trace.spans.push_back({.rank = static_cast<int>(position),
                             .lane = Lane::compute,
                             .name = to_string(slot),
                             .kind = kind,
                             .pass = pass,
                             .microbatch = slot.microbatch,
                             .layer = -1,
                             .chunk = slot.chunk,
                             .pair = slot.paired || is_second ? num_pairs - 1 : -1,
                             .start_us = times[position][index].start,
                             .end_us = times[position][index].end,
                             .bytes = 0});
    }
  }
  return trace;
}

}  // namespace strait
