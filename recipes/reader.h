// recipes/reader.h: from a tree of YAML to settings structs, by their tables.
#pragma once

#include <string>

#include "core/settings.h"
#include "recipes/recipe.h"
#include "recipes/yaml_tree.h"

namespace strait {

// Fills the struct from the tree. Adds a problem for every unknown key, wrong type, value out of
// range and (unless some of the recipe could not be read: incomplete) missing required key. Keys
// with a problem keep their default.
void read_settings(const YamlNode& tree, bool incomplete, Recipe& recipe, Problems& problems);

// What is wrong with a number, or empty: "0 is out of range: at least 1 (tokens)".
std::string range_problem(const Field& field, double value, const std::string& shown);

// Of these names the one most like the word, or empty if none is like it.
std::string closest_name(const std::string& word, const std::vector<std::string>& names);

}  // namespace strait
