#include "parallel/mesh/parallel_settings.h"

namespace strait {

const SettingsTable& table_of(const ParallelSettings*) {
  static const SettingsTable table = {
      {.name = "pipeline",
       .value = value_of<&ParallelSettings::pipeline>,
       .unit = "positions",
       .range = between(1, 1024),
       .doc = "Pipeline positions, each with a stretch of the layers: as many hidden layers as "
              "stages at least. Training cuts them by the FLOPs of their products."},
      {.name = "expert",
       .value = value_of<&ParallelSettings::expert>,
       .unit = "ranks",
       .range = between(1, 65536),
       .doc = "Ranks that share one set of routed experts. Divides the number of ranks."},
      {.name = "schedule",
       .value = value_of<&ParallelSettings::schedule>,
       .choices = {"1f1b", "interleaved", "zb1p", "zbv", "dualpipe", "dualpipev", "file:PATH",
                   kAutoSchedule},
       .doc = "Order of a position's forwards and backwards; that of a file as `strait schedule "
              "--print` writes it, relative to the recipe. auto: with chunks, pairs and waves the "
              "fastest that the planner predicts on `cluster` at these sizes; a run keeps it."},
      {.name = "cluster",
       .value = value_of<&ParallelSettings::cluster>,
       .doc = "Cluster that schedule auto is chosen for: a name of `strait cluster list`, or a "
              "file, relative to where strait is started."},
      {.name = "chunks",
       .value = value_of<&ParallelSettings::chunks>,
       .unit = "stages",
       .range = between(0, 256),
       .doc = "Stages a position holds in turn (virtual pipeline). 0: what the schedule has by "
              "itself."},
      {.name = "pairs",
       .value = value_of<&ParallelSettings::pairs>,
       .doc = "Whether neighbouring forwards and backwards of a schedule run as pairs, the "
              "transfers of one under the "
              "compute of the other."},
      {.name = "waves",
       .value = value_of<&ParallelSettings::waves>,
       .unit = "parts",
       .range = between(1, 256),
       .doc = "Parts that a layer's experts are exchanged and run in, one under the other. "
              "A token's row crosses in each part that has an expert for it."},
      {.name = "overlap",
       .value = value_of<&ParallelSettings::overlap>,
       .doc = "Whether transfers run under compute. With false each task waits for the one before "
              "it: what overlap saves, measured."},
      {.name = "exchange",
       .value = value_of<&ParallelSettings::exchange>,
       .choices = {"auto", "flat", "two_tier"},
       .doc = "Way of a token's row to its experts: flat to each rank, or two_tier once to each "
              "node and on from there. auto: two_tier where expert groups have several ranks on "
              "each of several nodes."},
      {.name = "exchange_chunks",
       .value = value_of<&ParallelSettings::exchange_chunks>,
       .unit = "chunks",
       .range = between(1, 64),
       .doc = "Chunks that the rows of a two-tier exchange travel in, the way inside a node of one "
              "under the way between nodes of the next."},
      {.name = "routed_headroom",
       .value = value_of<&ParallelSettings::routed_headroom>,
       .unit = "times the mean",
       .range = between(0, 1024),
       .doc = "Room on each rank for what routed experts keep until backward. What does not fit is "
              "dispatched and computed again there. 0: no limit."},
      {.name = "dispatch_wire",
       .value = value_of<&ParallelSettings::dispatch_wire>,
       .choices = {"auto", "bf16", "fp8"},
       .doc =
           "Number format of rows on their way to the experts, and of their gradients. fp8: with a "
           "scale for 128 elements. auto: fp8 where routed experts multiply FP8, else as "
           "train.precision, and the gradients as combine_wire."},
      {.name = "combine_wire",
       .value = value_of<&ParallelSettings::combine_wire>,
       .choices = {"auto", "fp32", "bf16", "fp8"},
       .doc =
           "Number format of expert sums, and of gradients, between ranks. auto: as "
           "train.precision, sums of fp8 in bf16. fp8: sums alone, with a scale for 128 elements; "
           "two-tier, between nodes alone."},
  };
  return table;
}

}  // namespace strait
