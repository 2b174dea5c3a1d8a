#include "core/ops/cpu/isa.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <set>
#include <sstream>
#include <string>

#include "core/errors.h"

namespace strait::cpu {
namespace {

// What /proc/cpuinfo says of the first processor.
std::set<std::string> processor_flags() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    return {std::istream_iterator<std::string>(words), {}};
  }
  return {};
}

// STRAIT_EXPECT_ISA says what an emulated processor has: /proc/cpuinfo is then still the host's.
TEST(Isa, TheBestIsWhatTheProcessorHas) {
  if (const char* expected = std::getenv("STRAIT_EXPECT_ISA"); expected != nullptr) {
    EXPECT_STREQ(name_of(best_isa()), expected);
    return;
  }
  const std::set<std::string> flags = processor_flags();
  if (flags.empty()) GTEST_SKIP() << "/proc/cpuinfo lists no flags";
  const auto has = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (!flags.contains(name)) return false;
    return true;
  };
  Isa expected = Isa::portable;
  if (has({"avx2", "fma"})) expected = Isa::avx2;
  if (has({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"})) {
    expected = Isa::avx512;
    if (has({"amx_tile", "amx_bf16"})) expected = Isa::amx;
  }
  EXPECT_STREQ(name_of(best_isa()), name_of(expected));
}

TEST(Isa, TheOneInUseIsTheOneWishedFor) {
  const char* wish = std::getenv("STRAIT_CPU_ISA");
  EXPECT_STREQ(name_of(isa()), wish == nullptr ? name_of(best_isa()) : wish);
}

// The wish is read once per process: each of these runs in a process of its own.
void end_with_isa(const char* wish) {
  ::setenv("STRAIT_CPU_ISA", wish, 1);
  try {
    std::fputs(name_of(isa()), stderr);
    std::_Exit(0);
  } catch (const RecipeError& error) {
    std::fputs(error.what(), stderr);
    std::_Exit(2);
  }
}

TEST(IsaDeathTest, AWeakerOneIsUsedAndAnUnknownOneIsAnError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  if (std::getenv("STRAIT_CPU_ISA") != nullptr) GTEST_SKIP() << "STRAIT_CPU_ISA is set";
  if (std::getenv("STRAIT_EXPECT_ISA") != nullptr)
    GTEST_SKIP() << "a new process would run outside the emulated processor";
  EXPECT_EXIT(end_with_isa("portable"), ::testing::ExitedWithCode(0), "portable");
  EXPECT_EXIT(end_with_isa("sse9"), ::testing::ExitedWithCode(2), "STRAIT_CPU_ISA=sse9: unknown");
  EXPECT_EXIT(end_with_isa(""), ::testing::ExitedWithCode(0), name_of(best_isa()));
  if (best_isa() < Isa::amx) {
    EXPECT_EXIT(end_with_isa("amx"), ::testing::ExitedWithCode(2), "supports at most");
  }
}

}  // namespace
}  // namespace strait::cpu
