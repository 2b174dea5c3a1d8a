#include "recipes/scalar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "recipes/yaml_tree.h"

namespace strait {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A decimal number taken apart: (-1)^negative * digits * 10^exponent.
struct Decimal {
  bool negative = false;
  std::string digits;
  int64_t exponent = 0;
  std::string plain;  // the text without _ and leading +
};

// Takes the digits from text[at] on, with single _ between digits.
std::optional<std::string> take_digits(const std::string& text, size_t& at) {
  std::string digits;
  while (at < text.size() && (is_digit(text[at]) || text[at] == '_')) {
    if (text[at] == '_') {
      const bool between =
          !digits.empty() && text[at - 1] != '_' && at + 1 < text.size() && is_digit(text[at + 1]);
      if (!between) return std::nullopt;
    } else {
      digits += text[at];
    }
    ++at;
  }
  return digits;
}

ReadOr<Decimal> take_apart(const std::string& text, const char* wanted) {
  const std::string refused = fmt::format("expected {}, got '{}'", wanted, shortened(text));
  Decimal decimal;
  size_t at = 0;
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) {
    decimal.negative = text[at] == '-';
    ++at;
  }
  const auto whole = take_digits(text, at);
  if (!whole || whole->empty()) return refused;
  if (at < text.size() && *whole == "0" &&
      std::string("xXoObB").find(text[at]) != std::string::npos)
    return refused + ": numbers are decimal";
  std::string fraction;
  if (at < text.size() && text[at] == '.') {
    ++at;
    const auto digits = take_digits(text, at);
    if (!digits) return refused;
    fraction = *digits;
  }
  std::string exponent;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) exponent = text.substr(at++, 1);
    if (exponent == "+") exponent.clear();
    const size_t start = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    if (at == start) return refused;
    exponent += text.substr(start, at - start);
    const auto read =
        std::from_chars(exponent.data(), exponent.data() + exponent.size(), decimal.exponent);
    if (read.ec != std::errc() || std::abs(decimal.exponent) > 100000)
      return refused + ": its exponent is too large";
  }
  if (at != text.size()) return refused;
  if (whole->size() > 1 && (*whole)[0] == '0')
    return refused + ": a number does not start with 0 (YAML would read it as octal)";
  decimal.plain = (decimal.negative ? "-" : "") + *whole;
  if (!fraction.empty()) decimal.plain += "." + fraction;
  if (!exponent.empty()) decimal.plain += "e" + exponent;
  decimal.digits = *whole + fraction;
  decimal.exponent -= static_cast<int64_t>(fraction.size());
  return decimal;
}

}  // namespace

ReadOr<int64_t> read_integer(const std::string& text) {
  const auto parts = take_apart(text, "a whole number");
  if (const auto* problem = std::get_if<std::string>(&parts)) return *problem;
  Decimal decimal = std::get<Decimal>(parts);
  while (decimal.exponent < 0 && !decimal.digits.empty() && decimal.digits.back() == '0') {
    decimal.digits.pop_back();
    ++decimal.exponent;
  }
  const bool zero = decimal.digits.find_first_not_of('0') == std::string::npos;
  if (zero) return int64_t{0};
  if (decimal.exponent < 0)
    return fmt::format("expected a whole number, got '{}'", shortened(text));
  const std::string too_large = fmt::format("'{}' does not fit a 64-bit number", shortened(text));
  if (decimal.exponent > 19) return too_large;
  const std::string all = (decimal.negative ? "-" : "") + decimal.digits +
                          std::string(static_cast<size_t>(decimal.exponent), '0');
  int64_t value = 0;
  const auto read = std::from_chars(all.data(), all.data() + all.size(), value);
  if (read.ec != std::errc() || read.ptr != all.data() + all.size()) return too_large;
  return value;
}

ReadOr<double> read_real(const std::string& text) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const char* word : {"nan", "inf", "infinity"}) {
    const std::string bare = lower.substr(
        lower.find_first_not_of("+-.") == std::string::npos ? 0 : lower.find_first_not_of("+-."));
    if (bare == word) return fmt::format("expected a finite number, got '{}'", text);
  }
  const auto parts = take_apart(text, "a number");
  if (const auto* problem = std::get_if<std::string>(&parts)) return *problem;
  const std::string& plain = std::get<Decimal>(parts).plain;
  double value = 0;
  const auto read = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (read.ec == std::errc::result_out_of_range)
    return fmt::format("'{}' does not fit a 64-bit floating-point number", shortened(text));
  if (read.ec != std::errc()) return fmt::format("expected a number, got '{}'", shortened(text));
  return value;
}

ReadOr<bool> read_bool(const std::string& text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return fmt::format("expected true or false, got '{}'", shortened(text));
}

}  // namespace strait
