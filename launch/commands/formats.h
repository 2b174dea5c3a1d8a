// launch/commands/formats.h: `strait recipe formats`: in which number format a run of a recipe
// keeps, multiplies and sends what.
#pragma once

#include <string>
#include <vector>

#include "recipes/recipe.h"

namespace strait {

struct FormatRow {
  std::string part;        // "weights", "between forward and backward", "between ranks", "on disk"
  std::string what;        // "attention's projections"
  std::string format;      // of weights: as forward and backward hold them
  std::string products{};  // of weights: what the products with them multiply
};

// Of the roles and copies that this model and run have.
std::vector<FormatRow> formats_in_use(const Recipe& recipe);

int run_recipe_formats(const std::string& recipe, const std::vector<std::string>& overrides,
                       bool json);

}  // namespace strait
