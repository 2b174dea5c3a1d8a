#include "recipes/reference.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/errors.h"
#include "recipes/reader.h"
#include "recipes/recipe.h"

namespace strait {
namespace {

struct Entry {
  std::string key = {};  // "model.rope_scaling.factor", "schedule.stages[].shape"
  const Field* field = nullptr;
  std::string type = {}, default_text = {}, allowed = {};
  bool is_section = false;
};

std::string type_of(const FieldValue& value) {
  if (std::holds_alternative<int64_t*>(value)) return "whole number";
  if (std::holds_alternative<double*>(value)) return "number";
  if (std::holds_alternative<bool*>(value)) return "true or false";
  if (std::holds_alternative<std::string*>(value)) return "text";
  if (std::holds_alternative<std::vector<std::string>*>(value)) return "list of texts";
  return std::holds_alternative<SettingsRef>(value) ? "section" : "list of sections";
}

void collect(const SettingsRef& section, const std::string& prefix, std::vector<Entry>& entries) {
  for (const Field& field : *section.table) {
    const FieldValue value = field.value(section.settings);
    Entry entry{.key = prefix + field.name, .field = &field, .type = type_of(value)};
    entry.is_section = std::holds_alternative<SettingsRef>(value);
    entry.default_text = field.required ? "required" : value_text(value);
    if (entry.default_text == "\"\"") entry.default_text = "empty";
    entry.allowed = field.choices.empty() ? range_text(field.range)
                                          : fmt::format("{}", fmt::join(field.choices, ", "));
    entries.push_back(entry);
    if (const auto* inner = std::get_if<SettingsRef>(&value)) {
      collect(*inner, entry.key + ".", entries);
    } else if (const auto* list = std::get_if<SettingsListRef>(&value)) {
      collect(list->append(list->list), entry.key + "[].", entries);
    }
  }
}

std::vector<Entry> all_entries() {
  Recipe defaults;
  std::vector<Entry> entries;
  collect({&defaults, &table_of(&defaults)}, "", entries);
  return entries;
}

std::string explain_one(const Entry& entry) {
  std::string out = fmt::format("{}: {}\n", entry.key, entry.field->doc);
  if (entry.is_section) return out;
  out += "  " + entry.type;
  if (*entry.field->unit) out += fmt::format(", in {}", entry.field->unit);
  if (!entry.allowed.empty())
    out += fmt::format("; {}{}", entry.field->choices.empty() ? "" : "of ", entry.allowed);
  return out + (entry.field->required ? "; required\n"
                                      : fmt::format("; default {}\n", entry.default_text));
}

}  // namespace

std::string explain(const std::string& key) {
  const std::vector<Entry> entries = all_entries();
  std::string out;
  std::vector<std::string> keys;
  for (const Entry& entry : entries) {
    keys.push_back(entry.key);
    const bool below = entry.key.starts_with(key + ".") || entry.key.starts_with(key + "[].");
    if (key.empty() ? entry.key.find('.') == std::string::npos : entry.key == key || below)
      out += explain_one(entry);
  }
  if (!out.empty()) return out;
  std::string meant = closest_name(key, keys);
  for (const std::string& full : keys)
    if (meant.empty() && full.ends_with("." + key)) meant = full;
  throw RecipeError(fmt::format("unknown key '{}'{}", key,
                                meant.empty() ? "" : fmt::format("; did you mean '{}'?", meant)));
}

std::string reference_markdown() {
  std::string out =
      "# Recipe reference\n\n"
      "Every key of a recipe. Made from the settings tables; a test holds this page to them.\n\n"
      "A recipe may start from another: `extends: other.yaml`, relative to the file. Mappings "
      "merge,\n"
      "anything else replaces. `--set section.key=value` goes on top.\n";
  const std::vector<Entry> entries = all_entries();
  for (const Entry& entry : entries) {
    if (entry.key.find('.') == std::string::npos) {
      out += fmt::format(
          "\n## {}\n\n{}\n\n| key | type | unit | allowed | default | meaning |\n"
          "|---|---|---|---|---|---|\n",
          entry.key, entry.field->doc);
      continue;
    }
    const std::string name = entry.key.substr(entry.key.find('.') + 1);
    out += fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", name, entry.type, entry.field->unit,
                       entry.allowed, entry.default_text, entry.field->doc);
  }
  return out;
}

}  // namespace strait
