#include "recipes/changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "recipes/reference.h"

namespace strait {
namespace {

using Values = std::vector<std::pair<std::string, std::string>>;  // key, value as in YAML

void collect(const SettingsRef& section, const std::string& prefix, Values& values) {
  for (const Field& field : *section.table) {
    const FieldValue value = field.value(section.settings);
    const std::string key = prefix + field.name;
    if (const auto* inner = std::get_if<SettingsRef>(&value)) {
      collect(*inner, key + ".", values);
    } else if (const auto* list = std::get_if<SettingsListRef>(&value)) {
      for (int64_t i = 0; i < list->size(list->list); ++i)
        collect(list->at(list->list, i), fmt::format("{}[{}].", key, i), values);
    } else {
      values.emplace_back(key, value_text(value));
    }
  }
}

Values values_of(Recipe recipe) {  // a copy: tables give access to write
  Values values;
  collect({&recipe, &table_of(&recipe)}, "", values);
  return values;
}

const std::string* find(const Values& values, const std::string& key) {
  const auto at = std::ranges::find(values, key, &Values::value_type::first);
  return at == values.end() ? nullptr : &at->second;
}

}  // namespace

std::vector<std::string> changes_between(const Recipe& before, const Recipe& now) {
  const Values old_values = values_of(before), new_values = values_of(now);
  std::vector<std::string> changes;
  for (const auto& [key, value] : new_values) {
    const std::string* old_value = find(old_values, key);
    if (old_value == nullptr || *old_value != value)
      changes.push_back(
          fmt::format("{}: {} -> {}", key, old_value == nullptr ? "nothing" : *old_value, value));
  }
  for (const auto& [key, value] : old_values)  // an entry of a list that is shorter now
    if (find(new_values, key) == nullptr)
      changes.push_back(fmt::format("{}: {} -> nothing", key, value));
  return changes;
}

}  // namespace strait
