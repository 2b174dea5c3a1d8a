#include "parallel/sim/imbalance.h"

#include <fmt/format.h>

#include "core/errors.h"

namespace strait {

std::vector<std::vector<TaskCost>> with_every_skew_waited_for(
    std::span<const Program> programs, std::vector<std::vector<TaskCost>> costs,
    double max_over_mean) {
  STRAIT_CHECK(max_over_mean >= 1, fmt::format("expert load of max / mean {}", max_over_mean));
  for (size_t p = 0; p < programs.size(); ++p)
    for (size_t i = 0; i < programs[p].tasks.size(); ++i) {
      const Kind kind = programs[p].tasks[i].kind;
      if (kind == Kind::dispatch || kind == Kind::combine || kind == Kind::experts)
        costs[p][i].seconds *= max_over_mean;
    }
  return costs;
}

}  // namespace strait
