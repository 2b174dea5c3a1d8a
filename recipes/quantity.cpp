#include "recipes/quantity.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "core/errors.h"

namespace strait {
namespace {

struct Unit {
  const char* name;
  double scale;
};

// One kind of quantity. The first units are those quantity_text chooses from, rising.
struct Quantity {
  const char* unit;
  const char* what;
  const char* example;
  std::vector<Unit> shown, also;
};

const std::vector<Quantity>& quantities() {
  static const std::vector<Quantity> all = {
      {"bytes/s",
       "a bandwidth",
       "50 GB/s",
       {{"B/s", 1}, {"kB/s", 1e3}, {"MB/s", 1e6}, {"GB/s", 1e9}, {"TB/s", 1e12}},
       {{"KiB/s", 0x1p10},
        {"MiB/s", 0x1p20},
        {"GiB/s", 0x1p30},
        {"TiB/s", 0x1p40},
        {"bit/s", 1e0 / 8},
        {"kbit/s", 1e3 / 8},
        {"Mbit/s", 1e6 / 8},
        {"Gbit/s", 1e9 / 8},
        {"Tbit/s", 1e12 / 8}}},
      {"bytes",
       "a size of memory",
       "80 GB",
       {{"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}},
       {{"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}}},
      {"FLOP/s",
       "a speed of arithmetic",
       "989.5 TFLOP/s",
       {{"FLOP/s", 1},
        {"kFLOP/s", 1e3},
        {"MFLOP/s", 1e6},
        {"GFLOP/s", 1e9},
        {"TFLOP/s", 1e12},
        {"PFLOP/s", 1e15}},
       {}},
      {"s", "a time", "5 us", {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}}, {}},
      {"USD/h", "a price", "2 USD/h", {{"USD/h", 1}}, {{"$/h", 1}}},
      {"", "a plain number", "0.85", {{"", 1}}, {}},
  };
  return all;
}

const Quantity& quantity_of(const std::string& unit) {
  for (const Quantity& quantity : quantities())
    if (unit == quantity.unit) return quantity;
  throw_internal(__FILE__, __LINE__, "unit is known",
                 fmt::format("no quantity has unit '{}'", unit));
}

// "Gb/s" and "Gbps": mostly bits, but the case of a 'b' is too easily lost to be believed.
std::string bits_hint(const std::string& number, const std::string& name) {
  for (const char* prefix : {"", "k", "M", "G", "T"})
    for (const char* unit : {"b/s", "bps"})
      if (name == std::string(prefix) + unit)
        return fmt::format("'{} {}' may mean bits or bytes; write '{} {}bit/s' or '{} {}B/s'",
                           number, name, number, prefix, number, prefix);
  return "";
}

}  // namespace

ReadOr<double> read_quantity(const std::string& text, const std::string& unit) {
  const Quantity& quantity = quantity_of(unit);
  const std::string wrong = fmt::format("'{}' is not {}; write for example '{}'",
                                        text.size() > 60 ? text.substr(0, 57) + "..." : text,
                                        quantity.what, quantity.example);
  const size_t end = text.find_first_of(" \t");
  const std::string number = text.substr(0, end);
  const size_t start = end == std::string::npos ? end : text.find_first_not_of(" \t", end);
  const std::string name = start == std::string::npos ? "" : text.substr(start);
  const ReadOr<double> read = read_real(number);
  if (std::holds_alternative<std::string>(read)) return wrong;
  const double value = std::get<double>(read);
  for (const std::vector<Unit>* units : {&quantity.shown, &quantity.also})
    for (const Unit& candidate : *units)
      if (name == candidate.name) return value * candidate.scale;
  if (name.empty())
    return fmt::format("'{}' has no unit; write for example '{}'", text, quantity.example);
  if (unit == "bytes/s")
    if (const std::string hint = bits_hint(number, name); !hint.empty()) return hint;
  return wrong;
}

std::string quantity_text(double value, const std::string& unit, int digits) {
  const std::vector<Unit>& units = quantity_of(unit).shown;
  size_t chosen = 0;
  while (chosen + 1 < units.size() && std::abs(value) >= units[chosen + 1].scale) ++chosen;
  if (value == 0) chosen = unit == "s" ? units.size() - 1 : 0;
  std::string number = fmt::format("{:.{}g}", value / units[chosen].scale, digits);
  if (std::abs(std::stod(number)) >= 1000 && chosen + 1 < units.size())  // 999.9999 rounds up
    number = fmt::format("{:.{}g}", value / units[++chosen].scale, digits);
  return *units[chosen].name ? fmt::format("{} {}", number, units[chosen].name) : number;
}

std::string quantity_example(const std::string& unit) { return quantity_of(unit).example; }

}  // namespace strait
