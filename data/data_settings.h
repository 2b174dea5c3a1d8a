// data/data_settings.h: what a recipe says about the text to train on.
#pragma once

#include <string>

#include "core/settings.h"

namespace strait {

struct DataSettings {
  std::string corpus = {};  // the folder `strait data prepare` made
  bool operator==(const DataSettings&) const = default;
};

const SettingsTable& table_of(const DataSettings*);

}  // namespace strait
