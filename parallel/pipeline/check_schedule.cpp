#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

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
  std::map<std::pair<int, int>, int> holders;  // of a stage's copy
  for (int position = 0; position < s.num_positions(); ++position) {
    if (s.chunks[position].empty())
      return ScheduleProblem{.position = position, .of_chunks = true, .text = "holds no stage"};
    for (const Chunk& chunk : s.chunks[position]) {
      const auto problem = [&](const std::string& text) {
        return ScheduleProblem{
            .position = position,
            .of_chunks = true,
            .text = fmt::format("holds stage {}, copy {}{}", chunk.stage, chunk.copy, text)};
      };
      if (chunk.stage < 0 || chunk.stage >= s.num_stages || chunk.copy < 0 ||
          chunk.copy >= s.num_copies)
        return problem(fmt::format("; there are {} stages, copies {}", s.num_stages, s.num_copies));
      const auto [first, is_new] = holders.insert({{chunk.stage, chunk.copy}, position});
      if (!is_new) return problem(fmt::format(", and so does position {}", first->second));
    }
  }
  if (holders.size() < static_cast<size_t>(s.num_stages) * s.num_copies)
    for (int stage = 0; stage < s.num_stages; ++stage)
      for (int copy = 0; copy < s.num_copies; ++copy)
        if (!holders.contains({stage, copy}))
          return ScheduleProblem{
              .text = fmt::format("no position holds stage {}, copy {}", stage, copy)};
  return std::nullopt;
}

// Where each piece of work of one position is: [chunk][micro-batch][kind of work], -1 for nowhere.
class Places {
 public:
  Places(const Schedule& s, int position) : schedule_(s), position_(position) {
    places_.resize(s.chunks[position].size() * s.num_microbatches, {-1, -1, -1, -1});
  }

  Problem add(int index) {
    const Slot& slot = schedule_.slots[position_][index];
    const std::vector<Chunk>& held = schedule_.chunks[position_];
    if (slot.chunk < 0 || slot.chunk >= static_cast<int>(held.size()))
      return here(index, fmt::format("there is no chunk {}, only {}", slot.chunk, held.size()));
    if (slot.microbatch < 0 || slot.microbatch >= schedule_.num_microbatches)
      return here(index, fmt::format("there is no micro-batch {}, only {}", slot.microbatch,
                                     schedule_.num_microbatches));
    const int copy = schedule_.copy_of(slot.microbatch);
    if (held[slot.chunk].copy != copy)
      return here(index, fmt::format("micro-batch {} belongs to copy {}, the chunk is copy {}",
                                     slot.microbatch, copy, held[slot.chunk].copy));
    int& place = at(slot.chunk, slot.microbatch)[static_cast<int>(slot.work)];
    if (place >= 0) return here(index, fmt::format("comes twice; the first is slot {}", place));
    place = index;
    return std::nullopt;
  }

  // All that a chunk does with a micro-batch, after all slots have been added.
  Problem problem_of_work(int chunk, int microbatch) {
    if (schedule_.chunks[position_][chunk].copy != schedule_.copy_of(microbatch)) return {};
    const auto [forward, backward, input, weight] = at(chunk, microbatch);
    const auto missing = [&](Work work) {
      return here(-1, to_string(Slot{work, microbatch, chunk}) + " is missing");
    };
    if (forward < 0) return missing(Work::forward);
    if (backward >= 0 && (input >= 0 || weight >= 0))
      return here(backward, "has its backward whole and in parts; it takes one of them");
    if (backward < 0 && input < 0)
      return missing(weight < 0 ? Work::backward : Work::input_gradient);
    if (backward < 0 && weight < 0) return missing(Work::weight_gradient);
    const int gradient = std::max(backward, input);
    if (gradient < forward) return here(gradient, "comes before its forward");
    if (backward < 0 && weight < input) return here(weight, "comes before its input gradient");
    return std::nullopt;
  }

 private:
  std::array<int, 4>& at(int chunk, int microbatch) {
    return places_[static_cast<size_t>(chunk) * schedule_.num_microbatches + microbatch];
  }
  Problem here(int slot, std::string text) const {
    return ScheduleProblem{.position = position_, .slot = slot, .text = std::move(text)};
  }

  const Schedule& schedule_;
  int position_;
  std::vector<std::array<int, 4>> places_;
};

Problem problem_of_pair(const Schedule& s, int position, int first) {
  const std::vector<Slot>& slots = s.slots[position];
  const auto problem = [&](const char* text) {
    return ScheduleProblem{.position = position, .slot = first, .text = text};
  };
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
  for (int chunk = 0; chunk < static_cast<int>(s.chunks[position].size()); ++chunk)
    for (int m = 0; m < s.num_microbatches; ++m)
      if (Problem problem = places.problem_of_work(chunk, m)) return problem;
  for (int slot = 0; slot < num_slots; ++slot)
    if (s.slots[position][slot].paired)
      if (Problem problem = problem_of_pair(s, position, slot)) return problem;
  return std::nullopt;
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
  return {.position = position,
          .slot = index,
          .text = fmt::format(
              "waits for ever for the {} of stage {} at position {}, which waits as well", what,
              from, place.position)};
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
