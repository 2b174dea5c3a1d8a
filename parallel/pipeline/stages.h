// parallel/pipeline/stages.h: which layers a stage has. Layer num_hidden_layers is the MTP module.
#pragma once

#include <span>
#include <vector>

namespace strait {

struct StageLayers {
  int first_layer = 0;  // layers [first_layer, end_layer), the MTP module counted as one
  int end_layer = 0;
  bool embeds = false;  // the first stage: token rows
  bool has_head =
      false;  // the last stage: final norm, logits and loss of the main model and of the MTP module
  friend bool operator==(const StageLayers&, const StageLayers&) = default;
};

// Cuts the layers into `num_stages` stretches of one layer at least, so that the largest cost of a
// stage is as small as it can be; among such cuts the costs are as even as they can be (least sum
// of squares), and where cuts are equal in that too, earlier stages get more layers. `layer_cost`:
// one entry per layer, the MTP module last if there is one; as the last layer it is in the stage of
// the head. All costs in one unit, finite and not negative. Errors: RecipeError when there are more
// stages than layers. Cost: num_stages * layers^2.
std::vector<StageLayers> cut_stages(std::span<const double> layer_cost, double embedding_cost,
                                    double head_cost, int num_hidden_layers, int num_stages);

}  // namespace strait
