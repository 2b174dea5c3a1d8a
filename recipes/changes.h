// recipes/changes.h: what differs between two recipes.
#pragma once

#include <string>
#include <vector>

#include "recipes/recipe.h"

namespace strait {

// What `now` says differently, one entry a key, in the order of the tables: "train.steps: 4 -> 6".
std::vector<std::string> changes_between(const Recipe& before, const Recipe& now);

}  // namespace strait
