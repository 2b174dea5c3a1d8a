#include "launch/view/time_text.h"

#include <fmt/format.h>

#include <cmath>

namespace strait {

std::string time_text(double us, bool relative) {
  if (us == 0) return "0";
  if (relative) return fmt::format("{:.6g}", us);
  const double size = std::fabs(us);
  if (size >= 999950) return fmt::format("{:.4g} s", us * 1e-6);
  if (size >= 999.95) return fmt::format("{:.4g} ms", us * 1e-3);
  return size >= 0.99995 ? fmt::format("{:.4g} us", us) : fmt::format("{:.4g} ns", us * 1e3);
}

}  // namespace strait
