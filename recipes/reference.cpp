#include "recipes/reference.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/errors.h"
#include "parallel/sim/cluster.h"
#include "parallel/sim/measurement.h"
#include "recipes/quantity.h"
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

namespace {

// The keys of a cluster file.
std::string cluster_markdown() {
  std::string out =
      "\n# Cluster files\n\n"
      "`recipes/clusters/*.yaml`, for `strait plan --cluster` and `strait cluster`. Every figure "
      "is "
      "of one\nrank and says its unit and where it is from: `{value: 50 GB/s, source: \"...\"}`. "
      "`extends: other.yaml`\nworks as in recipes; an entry replaces the other file's entry with "
      "its "
      "source. Prefixes are powers of\n1000 (k, M, G, T, P) or, for bytes, of 1024 (Ki, Mi, Gi, "
      "Ti); "
      "bandwidths may be in bit/s.\n\n"
      "| key | written for example | allowed | | meaning |\n|---|---|---|---|---|\n";
  Cluster defaults;
  for (const Field& field : table_of(&defaults)) {
    const bool is_whole = std::holds_alternative<int64_t*>(field.value(&defaults));
    const char* unit = field.unit;
    out += fmt::format("| `{}` | {} | {}{}{} | {} | {} |\n", field.name,
                       !field.sourced ? "a text"
                       : is_whole     ? "8"
                                      : quantity_example(unit),
                       range_text(field.range), *unit ? " " : "", unit,
                       field.required ? "required" : "may be left out", field.doc);
  }
  return out;
}

// The lines of a file of measurements.
std::string measurements_markdown() {
  std::string out =
      "\n# Measurements\n\n"
      "CSV for `strait cluster calibrate --from`. The first line names the columns, in any order; "
      "each other\nline is one timing, in seconds, bytes and FLOPs. Lines that start with # are "
      "passed over.\n\n"
      "```\nwhat,precision,m,n,k,groups,flops,bytes,alone_seconds,seconds\n"
      "dense_gemm,fp8,4096,7168,2048,,,,,1.03e-4\n"
      "far_message,,,,,,,65536,,1.5e-5\n```\n\n"
      "| what | has, beside seconds | is |\n|---|---|---|\n";
  for (const MeasurementKind& kind : measurement_kinds()) {
    std::string cells = fmt::format("{}", fmt::join(kind.needs, ", "));
    if (!kind.may.empty()) cells += fmt::format("; may have {}", fmt::join(kind.may, ", "));
    out += fmt::format("| `{}` | {} | {} |\n", kind.name, cells, kind.doc);
  }
  return out;
}

}  // namespace

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
  return out + cluster_markdown() + measurements_markdown();
}

}  // namespace strait
