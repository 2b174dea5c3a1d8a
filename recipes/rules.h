// recipes/rules.h: how a check says that a rule between keys is broken.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "recipes/recipe.h"
#include "recipes/yaml_tree.h"

namespace strait {

// Adds a problem about a key when `broken`; `text` is evaluated only then.
class Rules {
 public:
  Rules(const Recipe& recipe, Problems& problems) : recipe_(recipe), problems_(problems) {}

  template <class... Args>
  void require(bool kept, const std::string& key, fmt::format_string<Args...> text,
               Args&&... args) {
    if (!kept)
      add_problem(problems_, recipe_.places.of(key),
                  fmt::format("{}: {}", key, fmt::format(text, std::forward<Args>(args)...)));
  }

 private:
  const Recipe& recipe_;
  Problems& problems_;
};

}  // namespace strait
