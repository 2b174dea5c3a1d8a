// recipes/scalar.h: how the words of a recipe become numbers and truth values. YAML's own rules are
// not used: they read 010 as eight and `no` as false.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace strait {

// A value, or in a std::string what is wrong with the text ("expected a whole number, got 'abc'").
template <class T>
using ReadOr = std::variant<T, std::string>;

// Decimal digits, with _ between them if wanted (1_000_000), a fraction or exponent if the value is
// whole (3e4). Refused: leading zeros, hexadecimal, what does not fit 64 bits.
ReadOr<int64_t> read_integer(const std::string& text);

// A finite decimal number: 3, 0.5, 1e-3. Rounded to the nearest double.
ReadOr<double> read_real(const std::string& text);

ReadOr<bool> read_bool(const std::string& text);  // true or false

}  // namespace strait
