#include "recipes/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "recipes/quantity.h"
#include "recipes/scalar.h"

namespace strait {
namespace {

// Insertions, deletions, replacements and swaps of neighbours that make a into b.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      const size_t replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

const Field* find_field(const SettingsTable& table, const std::string& name) {
  for (const Field& field : table)
    if (name == field.name) return &field;
  return nullptr;
}

// A figure that would do: "50 GB/s", "8".
std::string figure_example(const Field& field, const FieldValue& value) {
  return std::holds_alternative<int64_t*>(value) ? "8" : quantity_example(field.unit);
}

bool is_choice(const std::string& text, const std::vector<std::string>& choices) {
  return std::any_of(choices.begin(), choices.end(), [&](const std::string& choice) {
    const std::string prefix = choice.substr(0, choice.find(':') + 1);
    return prefix.empty() ? text == choice : text.starts_with(prefix) && text != prefix;
  });
}

bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\n") == std::string::npos;
}

class Reader {
 public:
  Reader(bool incomplete, const SettingsRef& root, const ReadNotes& notes)
      : incomplete_(incomplete),
        root_(root),
        places_(notes.places),
        problems_(notes.problems),
        figures_(notes.figures) {}

  // `prefix` is the section's name with its dot, or empty at the top.
  void read_section(const YamlNode& node, const std::string& prefix, const SettingsRef& section) {
    if (node.kind == YamlNode::Kind::map) {
      for (const YamlNode& child : node.children) {
        if (const Field* field = find_field(*section.table, child.key)) {
          places_.at[prefix + child.key] = child.place;
          read_value(child, prefix + child.key, *field, field->value(section.settings));
        } else {
          add_problem(problems_, child.place, unknown_key(child.key, prefix, *section.table));
        }
      }
    } else if (!node.place.empty()) {
      add_problem(problems_, node.place,
                  prefix.empty()
                      ? fmt::format("expected keys with values, got {}", describe(node))
                      : fmt::format("{}: expected keys with values under it, got {}",
                                    prefix.substr(0, prefix.size() - 1), describe(node)));
      if (node.kind != YamlNode::Kind::nothing) return;
    }
    if (!incomplete_) report_missing(node, prefix, section);
  }

 private:
  std::string unknown_key(const std::string& key, const std::string& prefix,
                          const SettingsTable& table) const {
    std::string text = fmt::format("unknown key '{}'", shortened(key));
    if (!prefix.empty()) text += fmt::format(" in '{}'", prefix.substr(0, prefix.size() - 1));
    std::vector<std::string> names;
    for (const Field& field : table) names.push_back(field.name);
    std::string meant = closest_name(key, names);
    if (meant.empty()) meant = same_name_elsewhere(key);
    if (!meant.empty()) text += fmt::format("; did you mean '{}'?", meant);
    return text;
  }

  // "steps" -> "train.steps", if only one section has such a key.
  std::string same_name_elsewhere(const std::string& key) const {
    std::vector<std::string> found;
    for (const Field& field : *root_.table) {
      const FieldValue value = field.value(root_.settings);
      if (const auto* section = std::get_if<SettingsRef>(&value))
        if (find_field(*section->table, key))
          found.push_back(fmt::format("{}.{}", field.name, key));
    }
    return found.size() == 1 ? found.front() : "";
  }

  void report_missing(const YamlNode& node, const std::string& prefix, const SettingsRef& section) {
    for (const Field& field : *section.table) {
      if (node.kind == YamlNode::Kind::map && node.find(field.name)) continue;
      const FieldValue value = field.value(section.settings);
      if (const auto* inner = std::get_if<SettingsRef>(&value)) {
        read_section({}, prefix + field.name + ".", *inner);
      } else if (field.required) {
        std::string text = fmt::format("missing key '{}{}': {}", prefix, field.name, field.doc);
        if (field.sourced)
          text += fmt::format(" Write for example {}: {{value: {}, source: \"...\"}}", field.name,
                              figure_example(field, value));
        add_problem(problems_, places_.of(prefix + field.name), text);
      }
    }
  }

  void read_value(const YamlNode& node, const std::string& key, const Field& field,
                  const FieldValue& value) {
    const auto problem = [&](const std::string& text) {
      add_problem(problems_, node.place, fmt::format("{}: {}", key, text));
    };
    if (field.sourced) {
      read_figure(node, key, field, value);
    } else if (const auto* section = std::get_if<SettingsRef>(&value)) {
      read_section(node, key + ".", *section);
    } else if (const auto* list = std::get_if<SettingsListRef>(&value)) {
      read_list(node, key, *list);
    } else if (const auto* texts = std::get_if<std::vector<std::string>*>(&value)) {
      if (node.kind != YamlNode::Kind::list)
        return problem("expected a list, got " + describe(node));
      (*texts)->clear();
      for (const YamlNode& item : node.children)
        if (read_text(item, key, field, (*texts)->emplace_back()) &&
            std::count((*texts)->begin(), (*texts)->end(), item.text) > 1)
          problem(fmt::format("'{}' is in the list twice", item.text));
    } else if (const auto* text = std::get_if<std::string*>(&value)) {
      std::string read;
      if (read_text(node, key, field, read)) **text = read;
    } else if (const auto* integer = std::get_if<int64_t*>(&value)) {
      read_scalar(node, key, field, "a whole number", read_integer, **integer);
    } else if (const auto* real = std::get_if<double*>(&value)) {
      read_scalar(node, key, field, "a number", read_real, **real);
    } else if (const auto* boolean = std::get_if<bool*>(&value)) {
      read_scalar(node, key, field, "true or false", read_bool, **boolean);
    }
  }

  template <class T>
  void read_scalar(const YamlNode& node, const std::string& key, const Field& field,
                   const char* wanted, ReadOr<T> (*read)(const std::string&), T& value) {
    std::string problem;
    if (node.kind != YamlNode::Kind::scalar || node.quoted) {
      problem = fmt::format("expected {}, got {}", wanted, describe(node));
    } else {
      const ReadOr<T> result = read(node.text);
      if (const T* got = std::get_if<T>(&result)) {
        problem = range_problem(field, static_cast<double>(*got), shortened(node.text));
        if (problem.empty()) value = *got;
      } else {
        problem = std::get<std::string>(result);
      }
    }
    if (!problem.empty()) add_problem(problems_, node.place, fmt::format("{}: {}", key, problem));
  }

  // {value: 50 GB/s, source: "..."}
  void read_figure(const YamlNode& node, const std::string& key, const Field& field,
                   const FieldValue& value) {
    const auto problem = [&](const std::string& place, const std::string& text) {
      add_problem(problems_, place, fmt::format("{}: {}", key, text));
    };
    if (node.kind != YamlNode::Kind::map)
      return problem(node.place,
                     fmt::format("expected a value and its source, got {}; write for example "
                                 "{{value: {}, source: \"where it is from\"}}",
                                 describe(node), figure_example(field, value)));
    WrittenFigure figure;
    bool has_value = false, has_source = false;
    for (const YamlNode& child : node.children) {
      const bool is_text = child.kind == YamlNode::Kind::scalar && !is_blank(child.text);
      if (child.key == "value") {
        has_value = true;
        if (!is_text) {
          problem(child.place, fmt::format("expected a value like '{}', got {}",
                                           figure_example(field, value), describe(child)));
        } else if (const std::string wrong = set_quantity(child.text, field, value);
                   !wrong.empty()) {
          problem(child.place, wrong);
        }
        figure.text = child.text;
      } else if (child.key == "source") {
        has_source = true;
        if (!is_text) problem(child.place, "its source is empty; say where the figure is from");
        figure.source = child.text;
      } else {
        problem(child.place,
                fmt::format("unknown key '{}'; a figure has value and source", child.key));
      }
    }
    if (!has_value)
      problem(node.place, fmt::format("has no value; write for example value: {}",
                                      figure_example(field, value)));
    if (!has_source) problem(node.place, "has no source; say where the figure is from");
    (*figures_)[key] = figure;
  }

  // Sets the number, or says what is wrong with the text.
  static std::string set_quantity(const std::string& text, const Field& field,
                                  const FieldValue& value) {
    double number = 0;
    if (const auto* integer = std::get_if<int64_t*>(&value)) {
      const auto read = read_integer(text);
      if (const auto* problem = std::get_if<std::string>(&read)) return *problem;
      if (!field.range.contains(number = static_cast<double>(std::get<int64_t>(read))))
        return range_problem(field, number, text);
      **integer = std::get<int64_t>(read);
      return "";
    }
    const auto read = read_quantity(text, field.unit);
    if (const auto* problem = std::get_if<std::string>(&read)) return *problem;
    number = std::get<double>(read);
    if (!field.range.contains(number))
      return fmt::format("{} is out of range ({}{}{})", text, range_text(field.range),
                         *field.unit ? " " : "", field.unit);
    *std::get<double*>(value) = number;
    return "";
  }

  bool read_text(const YamlNode& node, const std::string& key, const Field& field,
                 std::string& text) {
    std::string problem;
    if (node.kind != YamlNode::Kind::scalar) {
      problem = fmt::format("expected a text, got {}", describe(node));
    } else if (!field.choices.empty() && !is_choice(node.text, field.choices)) {
      problem = fmt::format("expected {}{}, got '{}'", field.choices.size() > 1 ? "one of " : "",
                            fmt::join(field.choices, ", "), shortened(node.text));
    }
    if (problem.empty()) {
      text = node.text;
      return true;
    }
    add_problem(problems_, node.place, fmt::format("{}: {}", key, problem));
    return false;
  }

  void read_list(const YamlNode& node, const std::string& key, const SettingsListRef& list) {
    if (node.kind != YamlNode::Kind::list) {
      add_problem(problems_, node.place,
                  fmt::format("{}: expected a list, got {}", key, describe(node)));
      return;
    }
    list.clear(list.list);
    for (size_t i = 0; i < node.children.size(); ++i) {
      const std::string entry = fmt::format("{}[{}]", key, i);
      places_.at[entry] = node.children[i].place;
      read_section(node.children[i], entry + ".", list.append(list.list));
    }
  }

  const bool incomplete_;
  const SettingsRef root_;
  KeyPlaces& places_;
  Problems& problems_;
  std::map<std::string, WrittenFigure>* const figures_;
};

}  // namespace

void read_settings(const YamlNode& tree, bool incomplete, const SettingsRef& settings,
                   const ReadNotes& notes) {
  Reader(incomplete, settings, notes).read_section(tree, "", settings);
}

std::string range_problem(const Field& field, double value, const std::string& shown) {
  if (field.range.contains(value)) return "";
  const std::string unit = *field.unit ? fmt::format(" {}", field.unit) : "";
  return fmt::format("{}{} is out of range ({})", shown, unit, range_text(field.range));
}

std::string closest_name(const std::string& word, const std::vector<std::string>& names) {
  std::string best;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  if (word.size() > 100) return best;
  for (const std::string& name : names) {
    const size_t distance = edit_distance(word, name);
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace strait
