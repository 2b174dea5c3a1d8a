// recipes/cluster.h: cluster files: every figure with its unit and its source.
//
//   card_bandwidth: {value: 50 GB/s, source: "DeepSeek-V3 report, section 3.2.2"}
//
// `extends: other.yaml` works as in recipes; an entry replaces the other's entry with its source.
// The keys are those of parallel/sim/cluster.h's table.
#pragma once

#include <string>
#include <vector>

#include "parallel/sim/cluster.h"

namespace strait {

// Of a file, or of a name under recipes/clusters of this build's source folder ("h800-2048").
// Errors: RecipeError with everything that is wrong, one line each with its file and line:
//   clusters/x.yaml:9: card_bandwidth: '50 GB' is not a bandwidth; write for example '50 GB/s'
Cluster load_cluster(const std::string& path_or_name);

// The same from text. `name` stands for the file in messages.
Cluster read_cluster(const std::string& text, const std::string& name);

// Names that load_cluster knows, sorted.
std::vector<std::string> cluster_names();
std::string cluster_path(const std::string& name);  // the file of such a name

// One figure as it is shown: the text of its file while the value is still the file's, or the value
// with its unit.
std::string figure_text(const Cluster& cluster, const std::string& key);

// A file that loads back to an equal cluster. Figures without a source are left out.
std::string to_yaml(const Cluster& cluster);

}  // namespace strait
