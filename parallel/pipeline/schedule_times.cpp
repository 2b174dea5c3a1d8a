#include "parallel/pipeline/schedule_times.h"

#include <algorithm>

#include "core/errors.h"

namespace strait {

double SlotCounts::paired_share() const {
  const int paired = 2 * pairs;
  const int all = paired + lone_forwards + lone_backwards + lone_input_gradients;
  return all == 0 ? 0 : static_cast<double>(paired) / all;
}

SlotCounts count_slots(const Schedule& schedule, int position) {
  const std::vector<Slot>& slots = schedule.slots[position];
  SlotCounts counts;
  int until_backward = 0, until_weight = 0;  // live now
  for (size_t index = 0; index < slots.size(); ++index) {
    const Slot& slot = slots[index];
    const bool in_pair = slot.paired || (index > 0 && slots[index - 1].paired);
    if (slot.paired) ++counts.pairs;
    switch (slot.work) {
      case Work::forward:  // comes first in a pair: its activations are there before the other's go
        if (!in_pair) ++counts.lone_forwards;
        counts.peak_live_until_backward =
            std::max(counts.peak_live_until_backward, ++until_backward);
        counts.peak_live_until_weight = std::max(counts.peak_live_until_weight, ++until_weight);
        break;
      case Work::backward:
        if (!in_pair) ++counts.lone_backwards;
        --until_backward;
        --until_weight;
        break;
      case Work::input_gradient:
        if (!in_pair) ++counts.lone_input_gradients;
        --until_backward;
        break;
      case Work::weight_gradient:
        ++counts.weight_gradients;
        --until_weight;
        break;
    }
  }
  return counts;
}

SlotCounts count_slots(const Schedule& schedule) {
  SlotCounts all;
  for (int position = 0; position < schedule.num_positions(); ++position) {
    const SlotCounts one = count_slots(schedule, position);
    all.pairs += one.pairs;
    all.lone_forwards += one.lone_forwards;
    all.lone_backwards += one.lone_backwards;
    all.lone_input_gradients += one.lone_input_gradients;
    all.weight_gradients += one.weight_gradients;
    all.peak_live_until_backward =
        std::max(all.peak_live_until_backward, one.peak_live_until_backward);
    all.peak_live_until_weight = std::max(all.peak_live_until_weight, one.peak_live_until_weight);
  }
  return all;
}

ScheduleTimes schedule_times(const Schedule& schedule, const SlotCosts& costs) {
  require_slot_costs(costs, schedule);
  ScheduleTimes times;
  std::vector<std::vector<double>> durations;
  for (int position = 0; position < schedule.num_positions(); ++position) {
    const std::vector<Slot>& slots = schedule.slots[position];
    std::vector<double>& of_position = durations.emplace_back(slots.size(), 0.0);
    double& busy = times.busy.emplace_back(0);
    for (size_t slot = 0; slot < slots.size(); slot += slots[slot].paired ? 2 : 1) {
      of_position[slot] = duration_of(schedule, costs, position, static_cast<int>(slot));
      busy += of_position[slot];
    }
  }
  SlotRun run = run_slots(schedule, durations);
  STRAIT_CHECK(run.finished(), "schedule " + schedule.name + " comes to a stand");
  times.slots = std::move(run.times);
  for (const std::vector<SlotTime>& slots : times.slots)
    if (!slots.empty()) times.makespan = std::max(times.makespan, slots.back().end);
  return times;
}

}  // namespace strait
