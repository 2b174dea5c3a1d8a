#include "parallel/pipeline/schedules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/errors.h"

namespace strait {
namespace {

struct Entry {
  const char* name;
  Schedule (*make)(const ScheduleOptions&);
  void (*require)(const ScheduleOptions&);
};

constexpr Entry kSchedules[] = {
    {"1f1b", schedule_1f1b, require_1f1b},
    {"interleaved", schedule_interleaved, require_interleaved},
    {"zb1p", schedule_zb1p, require_zb1p},
    {"zbv", schedule_zbv, require_zbv},
    {"dualpipe", schedule_dualpipe, require_dualpipe},
    {"dualpipev", schedule_dualpipev, require_dualpipev},
};

const Entry& entry_of(std::string_view name) {
  for (const Entry& entry : kSchedules)
    if (name == entry.name) return entry;
  throw RecipeError(fmt::format("there is no schedule '{}'; there are {}", name,
                                fmt::join(schedule_names(), ", ")));
}

}  // namespace

std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kSchedules) names.emplace_back(entry.name);
  return names;
}

Schedule make_schedule(std::string_view name, const ScheduleOptions& options) {
  return entry_of(name).make(options);
}

void require_schedule(std::string_view name, const ScheduleOptions& options) {
  entry_of(name).require(options);
}

}  // namespace strait
