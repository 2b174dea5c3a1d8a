// recipes/quantity.h: numbers with units, as cluster files write them.
#pragma once

#include <string>

#include "recipes/scalar.h"

namespace strait {

// Reads "50 GB/s", "400 Gbit/s", "989.5 TFLOP/s", "80 GB", "5 us", "2 USD/h" into `unit`:
// "bytes/s", "bytes", "FLOP/s", "s", "USD/h", or "" for a number without unit. Prefixes are powers
// of 1000 (k, M, G, T, P), or of 1024 for bytes (Ki, Mi, Gi, Ti). Otherwise what is wrong, and what
// works:
//   "'50 GB' is not a bandwidth; write for example '50 GB/s'"
ReadOr<double> read_quantity(const std::string& text, const std::string& unit);

// The value with the prefix that suits it: "50 GB/s", "5 us". At most `digits` significant digits.
std::string quantity_text(double value, const std::string& unit, int digits = 6);

std::string quantity_example(const std::string& unit);  // "50 GB/s"

}  // namespace strait
