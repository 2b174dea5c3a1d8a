// The grouped products' own source, run on the CPU: tiles, ring of stages, barriers, swizzles.
#include <gtest/gtest.h>

#include "tests/gpu/grouped_fiber.h"

namespace strait::cuda {
namespace {

class GroupedFiber : public ::testing::TestWithParam<GroupedCase> {};

const GroupedKernels kKernels = STRAIT_GROUPED_KERNELS(grouped_fp8);

TEST_P(GroupedFiber, GemmEqualsReference) { EXPECT_EQ(gemm_problem(kKernels, GetParam(), 1), ""); }
TEST_P(GroupedFiber, WgradAddsReference) { EXPECT_EQ(wgrad_problem(kKernels, GetParam(), 2), ""); }

INSTANTIATE_TEST_SUITE_P(Shapes, GroupedFiber,
                         ::testing::Values(GroupedCase{"one_tile", {128}, 128, 128, 0},
                                           GroupedCase{"ring_wraps", {900}, 128, 896, 0},
                                           GroupedCase{"ragged", {200, 0, 1}, 392, 272, 0},
                                           GroupedCase{"rows8", {8}, 256, 576, 8}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace strait::cuda
