#include "parallel/sim/measurement.h"

#include <gtest/gtest.h>

#include "core/errors.h"

namespace strait {
namespace {

const std::string kHeader = "what,precision,m,n,k,groups,flops,bytes,alone_seconds,seconds\n";

std::string problems_of(const std::string& text) {
  try {
    read_measurements(text, "x.csv");
  } catch (const DataError& error) {
    return error.what();
  }
  return "read";
}

TEST(Measurement, ReadsEveryKindOfLine) {
  const auto all = read_measurements(kHeader +
                                         "# a remark\n"
                                         "\n"
                                         "launch,,,,,,,,,2e-6\n"
                                         "dense_gemm, fp8, 4096, 7168, 2048,,,,, 1.03e-4\r\n"
                                         "grouped_gemm,bf16,8,7,6,4,,,,1e-4\n"
                                         "weight_gradient,fp32,8,7,6,,,,,1e-4\n"
                                         "attention_backward,bf16,,,,,5e11,,,1e-3\n"
                                         "elementwise,,,,,,,1e9,,4e-4\n"
                                         "far_message,,,,,,,65536,,1.5e-5\n"
                                         "under_exchange,,,,,,,,1e-3,1.2e-3\n"
                                         "commit,,,,,,,,,1e-4\n",
                                     "x.csv");
  ASSERT_EQ(all.size(), 9u);
  EXPECT_EQ(all[1].what, Measured::dense_gemm);
  EXPECT_EQ(all[1].precision, Precision::fp8);
  EXPECT_EQ(all[1].shape.m, 4096);
  EXPECT_EQ(all[1].shape.n, 7168);
  EXPECT_EQ(all[1].shape.k, 2048);
  EXPECT_EQ(all[1].shape.groups, 1);
  EXPECT_EQ(all[1].seconds, 1.03e-4);
  EXPECT_EQ(all[1].place, "x.csv:5");
  EXPECT_EQ(all[2].shape.groups, 4);
  EXPECT_EQ(all[4].flops, 5e11);
  EXPECT_EQ(all[6].bytes, 65536);
  EXPECT_EQ(all[7].alone_seconds, 1e-3);
}

TEST(Measurement, ColumnsStandInAnyOrder) {
  const auto all = read_measurements("seconds,what,bytes\n1e-5,far_message,100\n", "x.csv");
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].bytes, 100);
}

TEST(Measurement, EveryBadLineIsNamed) {
  EXPECT_EQ(problems_of(kHeader + "gemm,fp8,1,1,1,,,,,1\n"
                                  "dense_gemm,fp16,1,x,1,,,,,1\n"
                                  "dense_gemm,fp8,1,1,,,,,,1\n"
                                  "far_message,,,,,,,-5,,1\n"
                                  "far_message,,,,,,,5,,\n"
                                  "far_message,,4,,,,,5,,1\n"
                                  "commit,,,,,,,,1e-3\n"
                                  "dense_gemm,fp8,1.5,1,1,,,,,nan\n"),
            "x.csv:2: what: expected one of launch, dense_gemm, grouped_gemm, weight_gradient, "
            "attention_forward, attention_backward, elementwise, far_message, near_message, "
            "far_exchange, "
            "near_exchange, under_exchange, commit, got 'gemm'\n"
            "x.csv:3: precision: expected one of fp32, bf16, fp8, got 'fp16'\n"
            "x.csv:3: n: expected a number above 0, got 'x'\n"
            "x.csv:4: k: dense_gemm needs it\n"
            "x.csv:5: bytes: expected a number above 0, got '-5'\n"
            "x.csv:6: seconds: far_message needs it\n"
            "x.csv:7: m: far_message has none, got '4'\n"
            "x.csv:8: 9 cells, but the first line names 10 columns\n"
            "x.csv:9: m: expected a whole number, got '1.5'\n"
            "x.csv:9: seconds: expected a number above 0, got 'nan'");
}

TEST(Measurement, TheFirstLineNamesTheColumns) {
  const std::string columns =
      "what, precision, m, n, k, groups, flops, bytes, alone_seconds, seconds";
  EXPECT_EQ(problems_of("what,byte,seconds\n"),
            "x.csv:1: unknown column 'byte'; the columns are " + columns);
  EXPECT_EQ(problems_of("what,bytes,bytes,seconds\n"), "x.csv:1: column 'bytes' is here twice");
  EXPECT_EQ(problems_of("far_message,1,1\n").substr(0, 40),
            "x.csv:1: unknown column 'far_message'; t");
  EXPECT_EQ(problems_of("what,bytes\n").substr(0, 28), "x.csv:1: no column 'seconds'");
  EXPECT_EQ(problems_of("").substr(0, 16), "x.csv: no lines;");
  EXPECT_THROW(load_measurements("/nowhere/x.csv"), DataError);
}

// Whatever the bytes are, the answer is measurements or a DataError.
TEST(Measurement, DamagedTextEndsInAnAnswer) {
  uint64_t state = 1;
  const auto next = [&state](size_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % below;
  };
  const std::string bytes = ",,,\n\r#-e.9x \x80";
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text = kHeader +
                       "dense_gemm,fp8,4096,7168,2048,,,,,1.03e-4\n"
                       "far_message,,,,,,,65536,,1.5e-5\n";
    for (size_t i = 0, changes = 1 + next(3); i < changes; ++i)
      text[next(text.size())] = bytes[next(bytes.size())];
    refused += problems_of(text) == "read" ? 0 : 1;
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace strait
