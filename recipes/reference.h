// recipes/reference.h: what every key of a recipe means, from the tables.
#pragma once

#include <string>

#include "core/settings.h"

namespace strait {

// One key ("model.hidden_size"), a section's keys ("model"), or all sections (""), for a terminal.
// Errors: RecipeError for a key that is not there, with the one most like it.
std::string explain(const std::string& key);

// recipes/REFERENCE.md. A test holds the file to it.
std::string reference_markdown();

// A value as it stands in YAML.
std::string value_text(const FieldValue& value);

}  // namespace strait
