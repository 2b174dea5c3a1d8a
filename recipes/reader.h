// recipes/reader.h: from a tree of YAML to settings structs, by their tables.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/settings.h"
#include "recipes/key_places.h"
#include "recipes/yaml_tree.h"

namespace strait {

// What a file writes beside a figure's number.
struct WrittenFigure {
  std::string text;    // "50 GB/s"
  std::string source;  // "DeepSeek-V3 report, section 3.2.2"
};

// What is learnt while reading, beside the values.
struct ReadNotes {
  KeyPlaces& places;
  Problems& problems;
  std::map<std::string, WrittenFigure>* figures = nullptr;  // REQUIRED where a field is `sourced`
};

// Fills the settings from the tree. Adds a problem for every unknown key, wrong type, value out of
// range, figure with a wrong unit or without a source, and (unless some of the file could not be
// read: incomplete) missing required key. Keys with a problem keep their default.
void read_settings(const YamlNode& tree, bool incomplete, const SettingsRef& settings,
                   const ReadNotes& notes);

// What is wrong with a number, or empty: "0 is out of range: at least 1 (tokens)".
std::string range_problem(const Field& field, double value, const std::string& shown);

// Of these names the one most like the word, or empty if none is like it.
std::string closest_name(const std::string& word, const std::vector<std::string>& names);

}  // namespace strait
