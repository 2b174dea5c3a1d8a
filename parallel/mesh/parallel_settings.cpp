#include "parallel/mesh/parallel_settings.h"

namespace strait {

const SettingsTable& table_of(const ParallelSettings*) {
  static const SettingsTable table = {
      {.name = "pipeline",
       .value = value_of<&ParallelSettings::pipeline>,
       .unit = "positions",
       .range = between(1, 1),
       .doc = "Pipeline positions. Only 1: every rank has all layers."},
      {.name = "expert",
       .value = value_of<&ParallelSettings::expert>,
       .unit = "ranks",
       .range = between(1, 65536),
       .doc = "Ranks that share one set of routed experts. Divides the number of ranks."},
      {.name = "combine_wire",
       .value = value_of<&ParallelSettings::combine_wire>,
       .choices = {"auto", "fp32", "bf16"},
       .doc = "Number format of expert sums, and of gradients, between ranks. auto: as "
              "train.precision."},
  };
  return table;
}

}  // namespace strait
