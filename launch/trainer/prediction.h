// launch/trainer/prediction.h: what a run will take, found by running its steps on the `meta`
// device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/memory.h"
#include "core/nn/model.h"
#include "parallel/expert/expert_exchange.h"
#include "parallel/mesh/mesh.h"
#include "recipes/recipe.h"

namespace strait {

// FLOPs of forward and backward for one token of the recipe's sequence length, MTP module included,
// nothing recomputed; experts count as they are used.
double predict_flops_per_token(const Recipe& recipe);

struct Prediction {
  int64_t ranks = 1;
  ParameterCounts parameters;
  double flops_per_token = 0;
  // At the peak of a step, with expert load even: of a rank of each pipeline position.
  std::vector<MemoryUse> memory{};
  int fullest = 0;  // position
  // Of that rank if the recipe, which uses FP8, did not.
  std::optional<MemoryUse> fullest_in_bf16{};
  const MemoryUse& fullest_memory() const { return memory[static_cast<size_t>(fullest)]; }
};
// Errors: RecipeError when the layout does not fit (check_layout).
Prediction predict(const Recipe& recipe, int64_t ranks);

// Memory of a rank at the peak of a step. `num_threads`: each has
// scratch of its own. `loads`: what the exchanges of a micro-batch carry (Engine::expect_loads),
// empty: expert load even.
MemoryUse predict_memory(const Recipe& recipe, const Mesh& mesh, Rank rank, int num_threads,
                         const std::vector<RoutedRows>& loads);

// What one rank took, beside what was predicted.
struct MeasuredMemory {
  MemoryUse tensors;                                // at their peak
  int64_t rss_start_bytes = 0, rss_peak_bytes = 0;  // of the process
};
MeasuredMemory measure_memory(const Memory& memory, int64_t rss_start_bytes);
int64_t resident_bytes();  // of this process now
// `even`: predicted with expert load even; `met`: with the load that was met at the peak.
std::string memory_table(Rank rank, const MemoryUse& even, const MemoryUse& met,
                         const MeasuredMemory& measured);
std::string memory_json(Rank rank, const MemoryUse& even, const MemoryUse& met,
                        const MeasuredMemory& measured);

std::string to_table(const Recipe& recipe, const Prediction& prediction);
std::string to_json(const Recipe& recipe, const Prediction& prediction);

}  // namespace strait
