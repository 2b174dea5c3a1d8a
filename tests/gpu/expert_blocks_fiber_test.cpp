// The kernel's own source, run on the CPU.
#include <gtest/gtest.h>

#include "tests/gpu/fiber_launch.h"
//
#include "core/ops/cuda/kernels/expert_blocks.cuh"
#include "tests/gpu/expert_counts.h"
#include "tests/gpu/expert_rows.h"

namespace strait::cuda {
namespace {

TEST(ExpertBlocksFiber, AreThoseOfTheCounts) {
  for (const std::vector<int>& counts : expert_counts()) {
    const ExpertRows want(counts);
    const auto experts = static_cast<int>(counts.size());
    std::vector<int> first(experts, -7), end(experts, -7), owner(want.blocks() + 3, -7);
    int num = -7;
    fiber::run({1, kMaxExperts}, 1, [&] {
      expert_blocks_kernel({counts.data(), experts, static_cast<int>(owner.size()), first.data(),
                            end.data(), &num, owner.data()});
    });
    EXPECT_EQ(first, want.first_block);
    EXPECT_EQ(end, want.end_block);
    EXPECT_EQ(num, want.blocks());
    std::vector<int> want_owner = want.block_expert;
    want_owner.resize(owner.size(), -7);
    EXPECT_EQ(owner, want_owner);
  }
}

TEST(ExpertBlocksFiber, DoNotLeaveTheBuffer) {
  const std::vector<int> counts = {300, 300};
  std::vector<int> first(2), end(2), owner(6, -7);
  int num = 0;
  fiber::run({1, kMaxExperts}, 1, [&] {
    expert_blocks_kernel({counts.data(), 2, 4, first.data(), end.data(), &num, owner.data()});
  });
  EXPECT_EQ(owner, (std::vector<int>{0, 0, 0, 1, -7, -7}));
}

}  // namespace
}  // namespace strait::cuda
