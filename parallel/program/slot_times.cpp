#include "parallel/program/slot_times.h"

#include "core/errors.h"

namespace strait {
namespace {

double duration(const StageLayers& stage, Work work) {
  const double layers = stage.end_layer - stage.first_layer;
  const double with_head = layers + (stage.has_head ? 1 : 0);
  if (work == Work::weight_gradient) return layers;
  return work == Work::backward ? with_head + layers : with_head;
}

}  // namespace

SlotTimes::SlotTimes(const StepShape& shape, const Schedule& schedule) {
  std::vector<std::vector<double>> durations;
  for (size_t position = 0; position < schedule.slots.size(); ++position) {
    std::vector<double>& own = durations.emplace_back();
    for (const Slot& slot : schedule.slots[position]) {
      const int stage = schedule.chunks[position][static_cast<size_t>(slot.chunk)].stage;
      own.push_back(duration(shape.stages[static_cast<size_t>(stage)], slot.work));
    }
    for (size_t slot = 0; slot + 1 < own.size(); ++slot)
      if (schedule.slots[position][slot].paired) own[slot] += own[slot + 1];
  }
  const SlotRun run = run_slots(schedule, durations);
  STRAIT_CHECK(run.finished(), "schedule " + schedule.name + " cannot run to its end");
  times_.resize(schedule.slots.size());
  for (size_t position = 0; position < schedule.slots.size(); ++position) {
    for (size_t index = 0; index < schedule.slots[position].size(); ++index) {
      const Slot& slot = schedule.slots[position][index];
      const auto add = [&](Pass pass) {
        times_[position][{pass, slot.microbatch, slot.chunk}] = run.times[position][index];
      };
      if (slot.work == Work::forward) add(Pass::forward);
      if (slot.work == Work::backward || slot.work == Work::input_gradient)
        add(Pass::input_gradient);
      if (slot.work == Work::backward || slot.work == Work::weight_gradient)
        add(Pass::weight_gradient);
    }
  }
}

const SlotTime* SlotTimes::find(int position, Pass pass, int microbatch, int chunk) const {
  const auto& times = times_[static_cast<size_t>(position)];
  const auto found = times.find({pass, microbatch, chunk});
  return found == times.end() ? nullptr : &found->second;
}

const SlotTime& SlotTimes::of(int position, const Task& task) const {
  const SlotTime* time = find(position, task.pass, task.microbatch, task.chunk);
  STRAIT_CHECK(time != nullptr, to_string(task) + " comes from no slot");
  return *time;
}

}  // namespace strait
