// launch/commands/cluster.h: `strait cluster`.
#pragma once

#include <string>

namespace strait {

struct ClusterShowOptions {
  std::string cluster;  // a file, or a name under recipes/clusters
  bool json = false;
};
// Every figure with its unit and its source.
int run_cluster_show(const ClusterShowOptions& options);

// The clusters that are known by name.
int run_cluster_list(bool json);

struct ClusterCalibrateOptions {
  std::string measurements;  // CSV, see parallel/sim/measurement.h
  std::string base, out;
  bool replace = false, json = false;
};
// Writes the base with the figures that the measurements give, and prints how well they fit.
// Errors: DataError for the measurements and the new file, RecipeError for the base.
int run_cluster_calibrate(const ClusterCalibrateOptions& options);

}  // namespace strait
