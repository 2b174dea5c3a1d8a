#include "parallel/program/lower.h"

#include <algorithm>
#include <utility>

#include "parallel/program/check_shape.h"
#include "parallel/program/passes/passes.h"
#include "parallel/program/phases.h"
#include "parallel/program/slot_times.h"

namespace strait {
namespace {

std::vector<Program> forward_and_backward(const StepShape& shape, const Schedule& schedule,
                                          const SlotTimes& times) {
  std::vector<Program> programs = lay_out_phases(shape, schedule);
  for (Program& program : programs)
    program = add_exchanges(shape, split_into_waves(shape, std::move(program)));
  return add_messages(shape, schedule, times, std::move(programs));
}

// One micro-batch through every stage of the first copy.
Schedule forward_only(const Schedule& schedule) {
  Schedule once{.name = schedule.name,
                .num_microbatches = 1,
                .num_stages = schedule.num_stages,
                .num_copies = schedule.num_copies,
                .chunks = schedule.chunks,
                .slots = std::vector<std::vector<Slot>>(schedule.chunks.size())};
  for (int stage = 0; stage < schedule.num_stages; ++stage) {
    const ChunkPlace place = schedule.place_of(stage, 0);
    once.slots[static_cast<size_t>(place.position)].push_back({.chunk = place.chunk});
  }
  return once;
}

std::vector<Program> boundary_alone(const StepShape& shape, bool commits) {
  check_shape(shape);
  std::vector<Program> programs;
  programs.reserve(shape.buckets.size());
  for (int position = 0; position < static_cast<int>(shape.buckets.size()); ++position)
    programs.push_back(
        add_waiting_edges(shape, add_boundary(shape, commits, Program{.position = position})));
  return programs;
}

}  // namespace

std::vector<Program> lower_step(const StepShape& shape, const Schedule& schedule,
                                bool with_boundary) {
  check_shape(shape, schedule);
  const SlotTimes times(shape, schedule);
  std::vector<Program> programs =
      add_gradient_reductions(shape, times, forward_and_backward(shape, schedule, times));
  for (Program& program : programs) {
    if (with_boundary) program = add_boundary(shape, true, std::move(program));
    program = add_waiting_edges(shape, std::move(program));
  }
  return programs;
}

std::vector<Program> lower_settle(const StepShape& shape) { return boundary_alone(shape, true); }

std::vector<Program> lower_load(const StepShape& shape) { return boundary_alone(shape, false); }

std::vector<Program> lower_evaluation(const StepShape& shape, const Schedule& schedule) {
  check_shape(shape, schedule);
  const Schedule once = forward_only(schedule);
  std::vector<Program> programs = forward_and_backward(shape, once, SlotTimes(shape, once));
  for (Program& program : programs) program = add_waiting_edges(shape, std::move(program));
  return programs;
}

}  // namespace strait
