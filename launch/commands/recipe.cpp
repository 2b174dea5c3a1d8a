#include "launch/commands/recipe.h"

#include <fmt/format.h>

#include "launch/trainer/trainable.h"
#include "recipes/recipe.h"
#include "recipes/reference.h"

namespace strait {

int run_recipe_explain(const std::string& key) {
  fmt::print("{}", explain(key));
  return 0;
}

int run_recipe_show(const std::string& recipe, const std::vector<std::string>& overrides) {
  fmt::print("{}", to_yaml(load_recipe(recipe, overrides)));
  return 0;
}

int run_recipe_check(const std::string& recipe, const std::vector<std::string>& overrides,
                     int ranks) {
  const Recipe loaded = load_recipe(recipe, overrides);
  require_trainable(loaded, ranks);
  fmt::print("{}: good\n", recipe);
  return 0;
}

}  // namespace strait
