#include "parallel/pipeline/schedules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/errors.h"

namespace strait {
namespace {

struct Entry {
  const char* name;
  Schedule (*make)(const ScheduleOptions&);
};

constexpr Entry kSchedules[] = {
    {"1f1b", schedule_1f1b},         {"interleaved", schedule_interleaved},
    {"zb1p", schedule_zb1p},         {"zbv", schedule_zbv},
    {"dualpipe", schedule_dualpipe}, {"dualpipev", schedule_dualpipev},
};

}  // namespace

std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kSchedules) names.emplace_back(entry.name);
  return names;
}

Schedule make_schedule(std::string_view name, const ScheduleOptions& options) {
  for (const Entry& entry : kSchedules)
    if (name == entry.name) return entry.make(options);
  throw RecipeError(fmt::format("there is no schedule '{}'; there are {}", name,
                                fmt::join(schedule_names(), ", ")));
}

}  // namespace strait
