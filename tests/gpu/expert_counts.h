// tests/gpu/expert_counts.h: counts of rows for the tests of core/ops/cuda/expert_blocks.h.
#pragma once

#include <random>
#include <vector>

namespace strait::cuda {

inline std::vector<std::vector<int>> expert_counts() {
  std::vector<std::vector<int>> all = {{0}, {1}, {128}, {129}, {200, 0, 128, 1}, {0, 0, 700, 0}};
  std::mt19937 engine(1);
  for (int experts : {31, 32, 33, 256, 1024}) {
    std::vector<int> counts(experts);
    for (int& count : counts) count = engine() % 3 == 0 ? 0 : static_cast<int>(engine() % 700);
    all.push_back(counts);
  }
  return all;
}

}  // namespace strait::cuda
