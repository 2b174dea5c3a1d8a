#include "recipes/scalar.h"

#include <gtest/gtest.h>

#include <vector>

namespace strait {
namespace {

TEST(Scalar, ReadsWholeNumbers) {
  const std::vector<std::pair<std::string, int64_t>> cases = {
      {"0", 0},
      {"-0", 0},
      {"7", 7},
      {"+7", 7},
      {"-12", -12},
      {"1_000_000", 1'000'000},
      {"3e4", 30'000},
      {"3E+04", 30'000},
      {"1.5e3", 1500},
      {"2.0", 2},
      {"2.", 2},
      {"1200e-2", 12},
      {"0e99999", 0},
      {"9223372036854775807", INT64_MAX},
      {"-9223372036854775808", INT64_MIN},
      {"9007199254740993", 9007199254740993},  // a double would lose the last bit
  };
  for (const auto& [text, value] : cases) {
    const auto read = read_integer(text);
    ASSERT_TRUE(std::holds_alternative<int64_t>(read)) << text << ": " << std::get<1>(read);
    EXPECT_EQ(std::get<int64_t>(read), value) << text;
  }
}

TEST(Scalar, RefusesWhatIsNoWholeNumber) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "expected a whole number, got ''"},
      {"abc", "expected a whole number, got 'abc'"},
      {"-", "expected a whole number, got '-'"},
      {"12x", "expected a whole number, got '12x'"},
      {"1 2", "expected a whole number, got '1 2'"},
      {"1,000", "expected a whole number, got '1,000'"},
      {"_1", "expected a whole number, got '_1'"},
      {"1_", "expected a whole number, got '1_'"},
      {"1__0", "expected a whole number, got '1__0'"},
      {".5", "expected a whole number, got '.5'"},
      {"0.5", "expected a whole number, got '0.5'"},
      {"15e-1", "expected a whole number, got '15e-1'"},
      {"1e", "expected a whole number, got '1e'"},
      {"1e2.0", "expected a whole number, got '1e2.0'"},
      {"true", "expected a whole number, got 'true'"},
      {".inf", "expected a whole number, got '.inf'"},
      {"010",
       "expected a whole number, got '010': a number does not start with 0 (YAML would read it as "
       "octal)"},
      {"0x10", "expected a whole number, got '0x10': numbers are decimal"},
      {"0o10", "expected a whole number, got '0o10': numbers are decimal"},
      {"9223372036854775808", "'9223372036854775808' does not fit a 64-bit number"},
      {"-9223372036854775809", "'-9223372036854775809' does not fit a 64-bit number"},
      {"1e19", "'1e19' does not fit a 64-bit number"},
      {"1e300", "'1e300' does not fit a 64-bit number"},
      {"1e99999999999999999999",
       "expected a whole number, got '1e99999999999999999999': its exponent is too large"},
  };
  for (const auto& [text, problem] : cases) {
    const auto read = read_integer(text);
    ASSERT_TRUE(std::holds_alternative<std::string>(read)) << text;
    EXPECT_EQ(std::get<std::string>(read), problem);
  }
}

TEST(Scalar, ReadsNumbers) {
  const std::vector<std::pair<std::string, double>> cases = {
      {"3", 3},          {"-0.5", -0.5},         {"1e-3", 1e-3}, {"1e-06", 1e-6},
      {"+2.5E+3", 2500}, {"1_000.5", 1000.5},    {"0.1", 0.1},   {"2.2e-4", 2.2e-4},
      {"0", 0},          {"4.9e-324", 4.9e-324},
  };
  for (const auto& [text, value] : cases) {
    const auto read = read_real(text);
    ASSERT_TRUE(std::holds_alternative<double>(read)) << text << ": " << std::get<1>(read);
    EXPECT_EQ(std::get<double>(read), value) << text;
  }
}

TEST(Scalar, RefusesWhatIsNoFiniteNumber) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "expected a number, got ''"},
      {"fast", "expected a number, got 'fast'"},
      {".", "expected a number, got '.'"},
      {"1.2.3", "expected a number, got '1.2.3'"},
      {"nan", "expected a finite number, got 'nan'"},
      {".NaN", "expected a finite number, got '.NaN'"},
      {"inf", "expected a finite number, got 'inf'"},
      {"-.inf", "expected a finite number, got '-.inf'"},
      {"1e999", "'1e999' does not fit a 64-bit floating-point number"},
      {"1e-999", "'1e-999' does not fit a 64-bit floating-point number"},
      {"00.5",
       "expected a number, got '00.5': a number does not start with 0 (YAML would read it as "
       "octal)"},
      {"0x1p3", "expected a number, got '0x1p3': numbers are decimal"},
  };
  for (const auto& [text, problem] : cases) {
    const auto read = read_real(text);
    ASSERT_TRUE(std::holds_alternative<std::string>(read)) << text;
    EXPECT_EQ(std::get<std::string>(read), problem);
  }
}

TEST(Scalar, TruthIsTrueOrFalse) {
  EXPECT_EQ(std::get<bool>(read_bool("true")), true);
  EXPECT_EQ(std::get<bool>(read_bool("false")), false);
  for (const char* text : {"yes", "no", "on", "off", "1", "0", "True", ""})
    EXPECT_EQ(std::get<std::string>(read_bool(text)),
              std::string("expected true or false, got '") + text + "'");
}

}  // namespace
}  // namespace strait
