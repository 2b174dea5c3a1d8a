// parallel/pipeline/stages.h: which layers a stage has. Layer num_hidden_layers is the MTP module.
#pragma once

#include <span>
#include <vector>

namespace strait {

struct StageLayers {
  int first_layer = 0;  // layers [first_layer, end_layer), the MTP module counted as one
  int end_layer = 0;
  bool embeds = false;    // the first stage: token rows
  bool has_head = false;  // the last stage: final norm, logits and loss of the main model and of the MTP module
  friend bool operator==(const StageLayers&, const StageLayers&) = default;
};

// Cuts the layers into `num_stages` stretches so that the largest cost of a stage is as small as it can be; where several
// cuts are equal, later stages get fewer layers. `layer_cost`: one entry per layer, the MTP module last if there is one;
// the MTP module stays in the stage of the head. Throws RecipeError when there are more stages than layers.
std::vector<StageLayers> cut_stages(std::span<const double> layer_cost, double embedding_cost, double head_cost,
                                    int num_hidden_layers, int num_stages);

}  // namespace strait
