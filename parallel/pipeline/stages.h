// parallel/pipeline/stages.h: which layers a stage has. Layer num_hidden_layers is the MTP module.
#pragma once

#include <limits>
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

// Where stages are: each on a position of its own (or, interleaved, on one with stages so far away
// that it makes no difference), or stage s on one position with stage num_stages - 1 - s, as the
// bidirectional and V-shaped schedules have them.
enum class StagePlaces { apart, mirrored };

// Cuts the layers into `num_stages` stretches of one layer at least, so that the largest cost of a
// position is as small as it can be; among such cuts the costs of the stages are as even as they
// can be (least sum of squares), and where cuts are equal in that too, earlier stages get more
// layers.
// `layer_cost`: one entry per layer, the MTP module last if there is one; as the last layer it is
// in the stage of the head. All costs in one unit, finite and not negative. `most_layers` of a
// mirrored position, for even memory, which goes by layers: among the cuts that keep it and have
// the least largest cost, stages are as even as can be in layers. REQUIRES for mirrored: num_stages
// is even, and most_layers suffices. Errors: RecipeError when there are more stages than layers.
// Cost: num_stages
// * layers^2; mirrored at most num_stages * layers^4, in practice a hundredth of it.
std::vector<StageLayers> cut_stages(std::span<const double> layer_cost, double embedding_cost,
                                    double head_cost, int num_hidden_layers, int num_stages,
                                    StagePlaces places = StagePlaces::apart,
                                    int most_layers = std::numeric_limits<int>::max());

}  // namespace strait
