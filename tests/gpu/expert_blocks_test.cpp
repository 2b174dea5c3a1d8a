#include "core/ops/cuda/expert_blocks.h"

#include "tests/gpu/expert_counts.h"
#include "tests/gpu/expert_rows.h"
#include "tests/gpu/gpu_test.h"

namespace strait::cuda {
namespace {

class ExpertBlocksOnGpu : public GpuTest {};

TEST_F(ExpertBlocksOnGpu, AreThoseOfTheCounts) {
  for (const std::vector<int>& counts : expert_counts()) {
    const ExpertRows want(counts);
    const auto experts = static_cast<int>(counts.size());
    const auto max_blocks = static_cast<size_t>(want.blocks()) + 3;
    const Buffer counts_d = upload(counts), first = upload(std::vector<int>(experts, -7)),
                 end = upload(std::vector<int>(experts, -7)), num = upload(std::vector<int>{-7}),
                 owner = upload(std::vector<int>(max_blocks, -7));
    find_expert_blocks({counts_d.as<int>(), experts, static_cast<int>(max_blocks), first.as<int>(),
                        end.as<int>(), num.as<int>(), owner.as<int>()},
                       nullptr);
    EXPECT_EQ(download<int>(first), want.first_block);
    EXPECT_EQ(download<int>(end), want.end_block);
    EXPECT_EQ(download<int>(num), std::vector<int>{want.blocks()});
    std::vector<int> want_owner = want.block_expert;
    want_owner.resize(max_blocks, -7);
    EXPECT_EQ(download<int>(owner), want_owner);
  }
}

}  // namespace
}  // namespace strait::cuda
