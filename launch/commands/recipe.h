// launch/commands/recipe.h: `strait recipe`.
#pragma once

#include <string>
#include <vector>

namespace strait {

int run_recipe_explain(const std::string& key);  // a key, a section, or "" for all
// The recipe with every key it does not say, as YAML.
int run_recipe_show(const std::string& recipe, const std::vector<std::string>& overrides);
// Prints what is wrong, or that nothing is; `ranks` 0: any number.
int run_recipe_check(const std::string& recipe, const std::vector<std::string>& overrides,
                     int ranks);

}  // namespace strait
