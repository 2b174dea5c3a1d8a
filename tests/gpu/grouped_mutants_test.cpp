// Mistakes in the source of the grouped products show when it runs on the CPU: a dropped barrier, a
// flipped phase, a shifted descriptor (grouped_mutants.cmake).
#include <gtest/gtest.h>

#include "tests/gpu/grouped_fiber.h"
#include "tests/gpu/mutants.inc"

namespace strait::cuda {
namespace {

struct Mutant {
  const char* name;
  GroupedKernels kernels;
};

const std::vector<Mutant> kMutants = {
#include "tests/gpu/mutants_table.inc"
};

const std::vector<GroupedCase> kCases = {{"one_tile", {128}, 128, 128, 0},
                                         {"many_tiles", {1536}, 128, 128, 0},
                                         {"ring_wraps", {600}, 128, 896, 0},
                                         {"ragged", {200, 0, 1}, 392, 272, 0}};
constexpr unsigned kSeeds = 8;

// How a mutant first shows, or an empty string.
std::string first_problem(const GroupedKernels& kernels) {
  for (unsigned seed = 1; seed <= kSeeds; seed++) {
    for (const GroupedCase& shape : kCases) {
      for (const auto& problem : {gemm_problem, wgrad_problem}) {
        std::string text;
        try {
          text = problem(kernels, shape, seed);
        } catch (const std::logic_error& error) {
          text = error.what();
        }
        ptx::forget();
        if (!text.empty())
          return std::string(problem == gemm_problem ? "gemm" : "wgrad") + ", " + shape.name +
                 ", order " + std::to_string(seed) + ": " + text.substr(0, text.find('\n'));
      }
    }
  }
  return "";
}

class GroupedMutants : public ::testing::TestWithParam<size_t> {};

TEST_P(GroupedMutants, Shows) {
  const std::string problem = first_problem(kMutants[GetParam()].kernels);
  EXPECT_NE(problem, "");
  std::printf("%s: %s\n", kMutants[GetParam()].name, problem.c_str());
}

INSTANTIATE_TEST_SUITE_P(Grouped, GroupedMutants, ::testing::Range(size_t{0}, kMutants.size()),
                         [](const auto& info) { return std::string(kMutants[info.param].name); });

}  // namespace
}  // namespace strait::cuda
