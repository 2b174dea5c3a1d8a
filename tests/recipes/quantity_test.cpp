#include "recipes/quantity.h"

#include <gtest/gtest.h>

#include <vector>

namespace strait {
namespace {

struct Good {
  std::string text, unit;
  double value;
};

TEST(Quantity, ReadsEveryUnit) {
  const std::vector<Good> cases = {
      {"50 GB/s", "bytes/s", 50e9},
      {"400 Gbit/s", "bytes/s", 50e9},
      {"100 Mbit/s", "bytes/s", 12.5e6},
      {"8 kbit/s", "bytes/s", 1000},
      {"1 Tbit/s", "bytes/s", 125e9},
      {"3.35 TB/s", "bytes/s", 3.35e12},
      {"2 GiB/s", "bytes/s", 2147483648.0},
      {"1_000 MB/s", "bytes/s", 1e9},
      {"80 GB", "bytes", 80e9},
      {"80 GiB", "bytes", 85899345920.0},
      {"4096 B", "bytes", 4096},
      {"989.5 TFLOP/s", "FLOP/s", 989.5e12},
      {"2.5 PFLOP/s", "FLOP/s", 2.5e15},
      {"120 GFLOP/s", "FLOP/s", 120e9},
      {"5 us", "s", 5e-6},
      {"300 ns", "s", 300e-9},
      {"1.5 ms", "s", 1.5e-3},
      {"2 s", "s", 2},
      {"2 USD/h", "USD/h", 2},
      {"2.5 $/h", "USD/h", 2.5},
      {"0.85", "", 0.85},
      {"132", "", 132},
      {"5  \t us", "s", 5e-6},
  };
  for (const Good& good : cases) {
    const auto read = read_quantity(good.text, good.unit);
    ASSERT_TRUE(std::holds_alternative<double>(read)) << good.text << ": " << std::get<1>(read);
    EXPECT_DOUBLE_EQ(std::get<double>(read), good.value) << good.text;
  }
}

struct Bad {
  std::string text, unit, problem;
};

TEST(Quantity, RefusesWrongAndMissingUnits) {
  const std::vector<Bad> cases = {
      {"50 GB", "bytes/s", "'50 GB' is not a bandwidth; write for example '50 GB/s'"},
      {"50", "bytes/s", "'50' has no unit; write for example '50 GB/s'"},
      {"50 Gb/s", "bytes/s", "'50 Gb/s' may mean bits or bytes; write '50 Gbit/s' or '50 GB/s'"},
      {"400 Gbps", "bytes/s",
       "'400 Gbps' may mean bits or bytes; write '400 Gbit/s' or '400 GB/s'"},
      {"50GB/s", "bytes/s", "'50GB/s' is not a bandwidth; write for example '50 GB/s'"},
      {"50 gb/s", "bytes/s", "'50 gb/s' is not a bandwidth; write for example '50 GB/s'"},
      {"fast", "bytes/s", "'fast' is not a bandwidth; write for example '50 GB/s'"},
      {"nan GB/s", "bytes/s", "'nan GB/s' is not a bandwidth; write for example '50 GB/s'"},
      {"80 GB/s", "bytes", "'80 GB/s' is not a size of memory; write for example '80 GB'"},
      {"80 Gbit", "bytes", "'80 Gbit' is not a size of memory; write for example '80 GB'"},
      {"989 TFLOPS", "FLOP/s",
       "'989 TFLOPS' is not a speed of arithmetic; write for example '989.5 TFLOP/s'"},
      {"5 µs", "s", "'5 µs' is not a time; write for example '5 us'"},
      {"2 USD", "USD/h", "'2 USD' is not a price; write for example '2 USD/h'"},
      {"60 %", "", "'60 %' is not a plain number; write for example '0.85'"},
      {"", "s", "'' is not a time; write for example '5 us'"},
  };
  for (const Bad& bad : cases) {
    const auto read = read_quantity(bad.text, bad.unit);
    ASSERT_TRUE(std::holds_alternative<std::string>(read)) << bad.text;
    EXPECT_EQ(std::get<std::string>(read), bad.problem);
  }
}

TEST(Quantity, ShowsAFittingPrefix) {
  const std::vector<Good> cases = {
      {"50 GB/s", "bytes/s", 50e9},
      {"6.25 MB/s", "bytes/s", 6.25e6},
      {"0.5 B/s", "bytes/s", 0.5},
      {"1 TB/s", "bytes/s", 999999.9e6},
      {"0 B/s", "bytes/s", 0},
      {"0 s", "s", 0},
      {"3.7 us", "s", 3.7e-6},
      {"0.5 ns", "s", 0.5e-9},
      {"12 s", "s", 12},
      {"2.5 PFLOP/s", "FLOP/s", 2.5e15},
      {"989.5 TFLOP/s", "FLOP/s", 989.5e12},
      {"80 GB", "bytes", 80e9},
      {"0.85", "", 0.85},
      {"2 USD/h", "USD/h", 2},
  };
  for (const Good& good : cases) EXPECT_EQ(quantity_text(good.value, good.unit), good.text);
  EXPECT_EQ(quantity_text(123456789.0, "bytes/s", 3), "123 MB/s");
}

TEST(Quantity, WhatIsShownReadsBack) {
  for (const char* unit : {"bytes/s", "bytes", "FLOP/s", "s", "USD/h", ""})
    for (double value = 1e-9; value < 1e15; value *= 7.3) {
      const auto read = read_quantity(quantity_text(value, unit, 17), unit);
      ASSERT_TRUE(std::holds_alternative<double>(read)) << quantity_text(value, unit, 17);
      EXPECT_NEAR(std::get<double>(read) / value, 1, 1e-12);
    }
}

}  // namespace
}  // namespace strait
