// to_yaml: the resolved recipe.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "recipes/recipe.h"
#include "recipes/reference.h"

namespace strait {
namespace {

// A text as YAML that reads back as the same text.
std::string quote(const std::string& text) {
  const auto is_safe = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '/' || c == '.';
  };
  const bool is_plain = !text.empty() && std::all_of(text.begin(), text.end(), is_safe) &&
                        ((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'));
  std::string lower = text;
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  if (is_plain && lower != "null") return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

void write_section(std::string& out, const SettingsRef& section, const std::string& indent);

void write_field(std::string& out, const Field& field, const FieldValue& value,
                 const std::string& indent) {
  out += fmt::format("{}:", field.name);
  if (const auto* section = std::get_if<SettingsRef>(&value)) {
    out += "\n";
    write_section(out, *section, indent + "  ");
    return;
  }
  const auto* list = std::get_if<SettingsListRef>(&value);
  if (list == nullptr || list->size(list->list) == 0) {
    out += fmt::format(" {}\n", value_text(value));
    return;
  }
  out += "\n";
  for (int64_t i = 0; i < list->size(list->list); ++i) {
    std::string entry;
    write_section(entry, list->at(list->list, i), indent + "    ");
    out += indent + "  - " + entry.substr(indent.size() + 4);
  }
}

void write_section(std::string& out, const SettingsRef& section, const std::string& indent) {
  for (const Field& field : *section.table) {
    out += indent;
    write_field(out, field, field.value(section.settings), indent);
  }
}

}  // namespace

std::string value_text(const FieldValue& value) {
  if (const auto* integer = std::get_if<int64_t*>(&value)) return fmt::format("{}", **integer);
  if (const auto* real = std::get_if<double*>(&value)) return fmt::format("{}", **real);
  if (const auto* boolean = std::get_if<bool*>(&value)) return **boolean ? "true" : "false";
  if (const auto* text = std::get_if<std::string*>(&value)) return quote(**text);
  if (const auto* texts = std::get_if<std::vector<std::string>*>(&value)) {
    std::vector<std::string> quoted;
    for (const std::string& item : **texts) quoted.push_back(quote(item));
    return fmt::format("[{}]", fmt::join(quoted, ", "));
  }
  return std::holds_alternative<SettingsListRef>(value) ? "[]" : "";
}

std::string to_yaml(const Recipe& recipe) {
  Recipe copy = recipe;  // tables give access to write
  std::string out;
  write_section(out, {&copy, &table_of(&copy)}, "");
  return out;
}

}  // namespace strait
