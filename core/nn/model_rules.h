// core/nn/model_rules.h: the rules that tie the settings of a model together, whether a recipe or a
// config.json gives them. The range of each setting by itself is in its table.
#pragma once

#include <string>
#include <vector>

#include "core/nn/model_settings.h"

namespace strait {

struct BrokenRule {
  std::string key;   // the setting it is about: "n_group", "rope_scaling.beta_fast"
  std::string text;  // "8 experts do not split into n_group = 3 groups"
};

// All of them. REQUIRES: every setting is in its range.
std::vector<BrokenRule> broken_rules(const ModelSettings& model);

}  // namespace strait
