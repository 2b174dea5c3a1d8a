#include <fmt/format.h>

#include <array>

#include "core/errors.h"
#include "parallel/pipeline/find_problem.h"
#include "parallel/pipeline/run_slots.h"
#include "parallel/pipeline/schedule.h"

namespace strait {
namespace {

using Problem = std::optional<ScheduleProblem>;

Problem problem_of_chunks(const Schedule& s) {
  if (s.chunks.empty() || s.num_stages < 1 || s.num_copies < 1 || s.num_microbatches < 1)
    return ScheduleProblem{.text =
                               "positions, stages, copies and micro-batches must be 1 at least"};
  if (s.chunks.size() != s.slots.size())
    return ScheduleProblem{.text = fmt::format("{} positions have chunks, {} have slots",
                                               s.chunks.size(), s.slots.size())};
  std::vector<int> holder(static_cast<size_t>(s.num_stages) * s.num_copies, -1);
  for (int position = 0; position < s.num_positions(); ++position)
    for (const Chunk& chunk : s.chunks[position]) {
      if (chunk.stage < 0 || chunk.stage >= s.num_stages || chunk.copy < 0 ||
          chunk.copy >= s.num_copies)
        return ScheduleProblem{
            position, -1,
            fmt::format("holds stage {}, copy {}; there are {} stages with {} copies", chunk.stage,
                        chunk.copy, s.num_stages, s.num_copies)};
      int& first = holder[chunk.stage * s.num_copies + chunk.copy];
      if (first >= 0)
        return ScheduleProblem{position, -1,
                               fmt::format("holds stage {}, copy {}, and so does position {}",
                                           chunk.stage, chunk.copy, first)};
      first = position;
    }
  for (int index = 0; index < static_cast<int>(holder.size()); ++index)
    if (holder[index] < 0)
      return ScheduleProblem{.text = fmt::format("no position holds stage {}, copy {}",
                                                 index / s.num_copies, index % s.num_copies)};
  return std::nullopt;
}

// Where each piece of work of one position is: [chunk][micro-batch][kind of work], -1 for nowhere.
class Places {
 public:
  Places(const Schedule& s, int position) : schedule_(s), position_(position) {
    places_.resize(s.chunks[position].size() * s.num_microbatches, {-1, -1, -1, -1});
  }
  int& at(Work work, int microbatch, int chunk) {
    return places_[static_cast<size_t>(chunk) * schedule_.num_microbatches + microbatch]
                  [static_cast<int>(work)];
  }
  int& at(const Slot& slot) { return at(slot.work, slot.microbatch, slot.chunk); }
  Problem problem_here(int slot, std::string text) const {
    return ScheduleProblem{position_, slot, std::move(text)};
  }

  // The slot by itself, and against those before it.
  Problem add(int index) {
    const Slot& slot = schedule_.slots[position_][index];
    const std::vector<Chunk>& held = schedule_.chunks[position_];
    if (slot.chunk < 0 || slot.chunk >= static_cast<int>(held.size()))
      return problem_here(index, fmt::format("the position has {} chunks", held.size()));
    if (slot.microbatch < 0 || slot.microbatch >= schedule_.num_microbatches)
      return problem_here(index,
                          fmt::format("there are {} micro-batches", schedule_.num_microbatches));
    if (held[slot.chunk].copy != schedule_.copy_of(slot.microbatch))
      return problem_here(
          index,
          fmt::format("micro-batch {} belongs to copy {}, the chunk is copy {}", slot.microbatch,
                      schedule_.copy_of(slot.microbatch), held[slot.chunk].copy));
    if (at(slot) >= 0)
      return problem_here(index,
                          fmt::format("comes a second time; the first is slot {}", at(slot)));
    at(slot) = index;
    return problem_of_order(index, slot);
  }

  Problem problem_of_order(int index, const Slot& slot) {
    const auto before = [&](Work work) { return at(work, slot.microbatch, slot.chunk) >= 0; };
    if (slot.work == Work::forward) return std::nullopt;
    if (!before(Work::forward)) return problem_here(index, "comes before its forward");
    const bool whole = slot.work == Work::backward;
    if (whole ? before(Work::input_gradient) || before(Work::weight_gradient)
              : before(Work::backward))
      return problem_here(index, "has its backward twice, whole and in parts");
    if (slot.work == Work::weight_gradient && !before(Work::input_gradient))
      return problem_here(index, "comes before its input gradient");
    return std::nullopt;
  }

  Problem problem_of_missing() {
    for (int chunk = 0; chunk < static_cast<int>(schedule_.chunks[position_].size()); ++chunk)
      for (int m = 0; m < schedule_.num_microbatches; ++m) {
        if (schedule_.chunks[position_][chunk].copy != schedule_.copy_of(m)) continue;
        const bool parts = at(Work::input_gradient, m, chunk) >= 0;
        Work missing = Work::forward;
        if (at(Work::forward, m, chunk) >= 0) {
          missing = parts ? Work::weight_gradient : Work::backward;
          if (at(missing, m, chunk) >= 0) continue;
        }
        return problem_here(-1, fmt::format("{} is missing", to_string(Slot{missing, m, chunk})));
      }
    return std::nullopt;
  }

 private:
  const Schedule& schedule_;
  int position_;
  std::vector<std::array<int, 4>> places_;
};

Problem problem_of_pair(const Schedule& s, int position, int first) {
  const std::vector<Slot>& slots = s.slots[position];
  const auto problem = [&](const char* text) { return ScheduleProblem{position, first, text}; };
  if (first + 1 == static_cast<int>(slots.size()))
    return problem("is the first of a pair that has no second");
  const Slot &one = slots[first], &other = slots[first + 1];
  if (other.paired) return problem("begins a pair whose second slot begins another");
  if (one.work != Work::forward ||
      (other.work != Work::backward && other.work != Work::input_gradient))
    return problem("a pair is a forward, then a backward or an input gradient");
  if (one.microbatch == other.microbatch) return problem("both of the pair are of one micro-batch");
  return std::nullopt;
}

Problem problem_of_position(const Schedule& s, int position) {
  Places places(s, position);
  const int num_slots = static_cast<int>(s.slots[position].size());
  for (int slot = 0; slot < num_slots; ++slot)
    if (Problem problem = places.add(slot)) return problem;
  for (int slot = 0; slot < num_slots; ++slot)
    if (s.slots[position][slot].paired)
      if (Problem problem = problem_of_pair(s, position, slot)) return problem;
  return places.problem_of_missing();
}

// What the first slot of `position` that never ran waits for.
ScheduleProblem problem_of_waiting(const Schedule& s, const SlotRun& run, int position) {
  int index = run.next_slot[position];
  if (run.next_ready[position][0]) ++index;  // the other of the pair is the one that waits
  const Slot& slot = s.slots[position][index];
  const int stage = s.chunks[position][slot.chunk].stage;
  const bool forward = slot.work == Work::forward;
  const int from = forward ? stage - 1 : stage + 1;
  const ChunkPlace place = s.place_of(from, s.copy_of(slot.microbatch));
  const char* what = forward ? "forward" : "gradient";
  return {position, index,
          fmt::format("waits for ever for the {} of stage {} at position {}, which waits as well",
                      what, from, place.position)};
}

}  // namespace

std::optional<ScheduleProblem> find_problem(const Schedule& schedule) {
  if (Problem problem = problem_of_chunks(schedule)) return problem;
  for (int position = 0; position < schedule.num_positions(); ++position)
    if (Problem problem = problem_of_position(schedule, position)) return problem;
  const SlotRun run = run_slots(schedule);
  for (int position = 0; position < schedule.num_positions(); ++position)
    if (run.next_slot[position] < static_cast<int>(schedule.slots[position].size()))
      return problem_of_waiting(schedule, run, position);
  return std::nullopt;
}

std::string to_string(const ScheduleProblem& problem, const Schedule& schedule) {
  if (problem.position < 0) return problem.text;
  if (problem.slot < 0) return fmt::format("position {}: {}", problem.position, problem.text);
  return fmt::format("position {}, slot {} ({}): {}", problem.position, problem.slot,
                     to_string(schedule.slots[problem.position][problem.slot]), problem.text);
}

void check_schedule(const Schedule& schedule) {
  if (const Problem problem = find_problem(schedule))
    throw RecipeError(fmt::format("schedule {}: {}", schedule.name, to_string(*problem, schedule)));
}

}  // namespace strait
