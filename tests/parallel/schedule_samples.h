// Schedules by name, and all that fit so many positions and micro-batches.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "parallel/pipeline/schedules.h"

namespace strait {

inline Schedule made(const std::string& name, int positions, int microbatches, int chunks = 0) {
  return make_schedule(name,
                       {.positions = positions, .microbatches = microbatches, .chunks = chunks});
}

inline std::vector<Schedule> all_that_fit(int positions, int microbatches) {
  std::vector<Schedule> fit;
  for (const char* name : {"1f1b", "zb1p", "zbv"})
    fit.push_back(made(name, positions, microbatches));
  if (microbatches % positions == 0)
    for (int chunks : {2, 3, 4})
      fit.push_back(made("interleaved", positions, microbatches, chunks));
  if (microbatches >= 2 * positions) fit.push_back(made("dualpipev", positions, microbatches));
  if (microbatches >= 2 * positions && positions % 2 == 0 && microbatches % 2 == 0)
    fit.push_back(made("dualpipe", positions, microbatches));
  return fit;
}

// Chunks dealt out at random, then whatever can run next, at random: whole by the way it is made.
inline Schedule random_schedule(uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](size_t count) { return static_cast<int>(random() % count); };
  Schedule s;
  s.name = "random";
  s.num_stages = 1 + below(6);
  s.num_copies = 1 + below(2);
  s.num_microbatches = s.num_copies * (1 + below(4));
  const int positions = 1 + below(std::min(4, s.num_stages * s.num_copies));
  s.chunks.resize(positions);
  s.slots.resize(positions);
  for (int index = 0; index < s.num_stages * s.num_copies; ++index)  // one for each position first
    s.chunks[index < positions ? index : below(positions)].push_back(
        {index / s.num_copies, index % s.num_copies});
  // For each micro-batch and stage what has run: 0 nothing, 1 forward, 2 input gradient, 3 all.
  std::vector<std::vector<int>> done(s.num_microbatches, std::vector<int>(s.num_stages, 0));
  while (std::ranges::any_of(
      done, [](auto& d) { return std::ranges::any_of(d, [](int k) { return k < 3; }); })) {
    const int m = below(s.num_microbatches), stage = below(s.num_stages);
    const ChunkPlace place = s.place_of(stage, s.copy_of(m));
    int& state = done[m][stage];
    Work work = Work::forward;
    if (state == 3) continue;
    if (state == 0 && stage > 0 && done[m][stage - 1] < 1) continue;
    if (state == 1 && stage + 1 < s.num_stages && done[m][stage + 1] < 2) continue;
    if (state == 1) work = below(2) == 0 ? Work::backward : Work::input_gradient;
    if (state == 2) work = Work::weight_gradient;
    state = work == Work::backward ? 3 : state + 1;
    s.slots[place.position].push_back({work, m, place.chunk});
  }
  return s;
}

inline std::string words(const std::vector<Slot>& slots) {
  std::string text;
  for (const Slot& slot : slots) text += to_string(slot) + (slot.paired ? "&" : " ");
  return text;
}

// The message of the E that `act` throws; empty when it throws none.
template <class E, class Act>
std::string message_of(Act act) {
  try {
    act();
  } catch (const E& error) {
    return error.what();
  }
  return {};
}

}  // namespace strait
