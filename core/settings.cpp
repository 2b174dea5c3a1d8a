#include "core/settings.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

namespace strait {

std::string range_text(const FieldRange& range) {
  const auto show = [](double limit) {
    const std::string rounded = fmt::format("{:g}", limit);  // 1e+12, but not 1.04858e+06
    return std::strtod(rounded.c_str(), nullptr) == limit ? rounded : fmt::format("{:.17g}", limit);
  };
  const bool has_min = std::isfinite(range.min), has_max = std::isfinite(range.max);
  std::string text;
  if (has_min) text = fmt::format("{} {}", range.min_open ? "above" : "at least", show(range.min));
  if (has_min && has_max) text += ", ";
  if (has_max) text += fmt::format("{} {}", range.max_open ? "below" : "at most", show(range.max));
  return text;
}

}  // namespace strait
