#include "data/data_settings.h"

namespace strait {

const SettingsTable& table_of(const DataSettings*) {
  static const SettingsTable table = {
      {.name = "corpus",
       .value = value_of<&DataSettings::corpus>,
       .required = true,
       .doc = "The folder `strait data prepare --out` made, relative to where strait is started."},
  };
  return table;
}

}  // namespace strait
