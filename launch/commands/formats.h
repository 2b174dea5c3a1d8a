// launch/commands/formats.h: `strait recipe formats`: which tensor has which number format where,
// as training has it: from the settings that the engine gets and from the parameters and shards it
// makes of them.
#pragma once

#include <string>
#include <vector>

#include "recipes/recipe.h"

namespace strait {

// Rows of texts, one for each column; the first says what the row is about.
struct FormatSection {
  std::string name;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
};

// Weights by role, what waits for the backward pass, wires, checkpoint. What the model or the
// layout does not have is not listed.
std::vector<FormatSection> format_sections(const Recipe& recipe);

int run_recipe_formats(const std::string& recipe, const std::vector<std::string>& overrides,
                       bool json);

}  // namespace strait
