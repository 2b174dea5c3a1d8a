#include "parallel/sim/model_work.h"

#include <algorithm>

#include "core/errors.h"

namespace strait {

const PhaseWork& ModelWork::phase(Kind kind, int layer, Pass pass) const {
  static const PhaseWork kNone;
  const auto found = phases.find({kind, like_layer(layer), pass});
  return found == phases.end() ? kNone : found->second;
}

bool ModelWork::is_moe(int layer) const {
  return phases.contains({Kind::experts, like_layer(layer), Pass::forward});
}

int ModelWork::ends_layer(const Task& task) const {
  if (task.pass == Pass::weight_gradient || task.layer < 0) return -1;
  const auto stage = std::find_if(stages.begin(), stages.end(), [&](const StageLayers& s) {
    return s.first_layer <= task.layer && task.layer < s.end_layer;
  });
  STRAIT_CHECK(stage != stages.end(), to_string(task) + " is in no stage");
  // A stage may hold the MTP module and the heads alone: then the last hidden layer ended before it
  // was sent there.
  if (task.kind == Kind::head) return stage->has_head ? task.layer : -1;
  if (task.kind == Kind::attention)
    return task.layer > stage->first_layer && task.layer < num_hidden_layers ? task.layer - 1 : -1;
  // The end of a stage without a head: with the layer's own last task forward, its first one
  // backward.
  if (stage->has_head || task.layer + 1 != stage->end_layer) return -1;
  if (!is_moe(task.layer)) return task.kind == Kind::mlp ? task.layer : -1;
  const int part = task.pass == Pass::forward ? task.num_parts - 1 : 0;
  return task.kind == Kind::experts && task.part == part ? task.layer : -1;
}

}  // namespace strait
