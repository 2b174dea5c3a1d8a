// recipes/recipe.h: a training run as one value, and how it is read from YAML.
// Each section is a settings struct declared by the folder that uses it, with a table of its keys;
// REFERENCE.md is made from those tables.
#pragma once

#include <string>
#include <vector>

#include "core/nn/format_settings.h"
#include "core/nn/model_settings.h"
#include "core/settings.h"
#include "data/data_settings.h"
#include "optim/settings.h"
#include "parallel/mesh/parallel_settings.h"
#include "recipes/key_places.h"
#include "recipes/train_settings.h"

namespace strait {

struct Recipe {
  ModelSettings model;
  ObjectiveSettings objective;
  MtpSettings mtp;
  BalanceSettings balance;
  OptimizerSettings optimizer;
  ScheduleSettings schedule;
  TrainSettings train;
  FormatSettings formats;
  DataSettings data;
  ParallelSettings parallel;
  RunSettings run;

  KeyPlaces places;
  bool operator==(const Recipe&) const = default;
};

const SettingsTable& table_of(const Recipe*);  // the sections

// Reads the file, the recipes it extends (`extends: other.yaml`, relative to the file; mappings
// merge, anything else replaces) and then the overrides "a.b=c" in their order, and checks the
// whole (recipes/check.h). A value of an override that starts with [ { " or ' is YAML, any other is
// taken as it stands. Errors: RecipeError whose text has every problem found, one per line, each
// with its file and line:
//   recipes/x.yaml:17: unknown key 'n_routed_expert' in 'model'; did you mean 'n_routed_experts'?
Recipe load_recipe(const std::string& path, const std::vector<std::string>& overrides = {});

// The same from text. `name` stands for the file in messages; `extends` is relative to its folder.
Recipe read_recipe(const std::string& text, const std::string& name,
                   const std::vector<std::string>& overrides = {});

// Every key of the recipe, defaults too, as YAML that loads back to an equal recipe.
std::string to_yaml(const Recipe& recipe);

}  // namespace strait
