// tests/bench/layer_pair.h: the program of DeepSeek's published trace: one forward and one backward
// chunk of MoE layers, their phases interleaved, built by hand from the order of figure 4 of the
// DeepSeek-V3 report.
#pragma once

#include <string>

#include "parallel/program/task.h"
#include "parallel/sim/simulate.h"

namespace strait {

// Forward layer n (micro-batch 1) runs with backward layer num_layers - 1 - n (micro-batch 0).
inline Program published_pair(int num_layers) {
  Program program{.tasks = {}, .num_microbatches = 2, .position = 0};
  const auto add = [&](Kind kind, Pass pass, int layer, std::initializer_list<int> after) {
    const bool is_exchange = kind == Kind::dispatch || kind == Kind::combine;
    Task task{.kind = kind, .pass = pass, .lane = is_exchange ? Lane::far : Lane::compute};
    task.microbatch = pass == Pass::forward ? 1 : 0;
    task.layer = layer;
    task.pair = 0;
    for (const int earlier : after)
      if (earlier >= 0) task.after.push_back(earlier);
    program.tasks.push_back(task);
    return static_cast<int>(program.tasks.size()) - 1;
  };
  constexpr Pass F = Pass::forward, B = Pass::input_gradient, W = Pass::weight_gradient;
  int combined_F = -1, attended_B = -1;  // what the next layers wait for
  for (int layer_F = 0; layer_F < num_layers; ++layer_F) {
    const int layer_B = num_layers - 1 - layer_F;
    const int combined_B = add(Kind::combine, B, layer_B, {attended_B});
    const int attended_F = add(Kind::attention, F, layer_F, {combined_F});
    const int dispatched_F = add(Kind::dispatch, F, layer_F, {attended_F});
    const int experts_B = add(Kind::experts, B, layer_B, {combined_B});
    const int dispatched_B = add(Kind::dispatch, B, layer_B, {experts_B});
    add(Kind::experts, W, layer_B, {});
    const int experts_F = add(Kind::experts, F, layer_F, {dispatched_F});
    combined_F = add(Kind::combine, F, layer_F, {experts_F});
    attended_B = add(Kind::attention, B, layer_B, {dispatched_B});
    add(Kind::attention, W, layer_B, {});
  }
  return program;
}

}  // namespace strait
