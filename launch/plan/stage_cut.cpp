#include "launch/plan/stage_cut.h"

#include <limits>

#include "launch/engine/engine_settings.h"
#include "launch/engine/step_layout.h"
#include "launch/plan/step_costs.h"
#include "recipes/batch_ramp.h"

namespace strait {

StagePlaces places_of(const Schedule& schedule) {
  for (const std::vector<Chunk>& chunks : schedule.chunks)
    if (chunks.size() != 2 || chunks[0].stage + chunks[1].stage != schedule.num_stages - 1)
      return StagePlaces::apart;
  return StagePlaces::mirrored;
}

std::vector<StageLayers> cut_model(const ModelCosts& costs, const Schedule& schedule, CutBy cut) {
  const StagePlaces places = places_of(schedule);
  int most_layers = std::numeric_limits<int>::max();
  if (cut == CutBy::even_layers && places == StagePlaces::mirrored) {
    // Every position has as many, or one less.
    const int pairs = schedule.num_stages / 2;
    most_layers = (static_cast<int>(costs.layers.size()) + pairs - 1) / pairs;
  }
  return cut_stages(costs.layers, costs.embedding, costs.head + costs.mtp_head,
                    costs.num_hidden_layers, schedule.num_stages, places, most_layers);
}

EngineSettings training_settings(const Recipe& recipe, const Mesh& mesh, int num_threads) {
  EngineSettings settings = engine_settings(recipe, mesh, num_threads);
  settings.schedule = recipe.parallel.schedule;
  settings.chunks = recipe.parallel.chunks;
  settings.pairs = recipe.parallel.pairs;
  settings.waves = static_cast<int>(recipe.parallel.waves);
  for (const int64_t batch : batches_of(recipe.train))
    if (batch < recipe.train.global_batch)
      settings.fewer.push_back(batch / (recipe.train.micro_batch * mesh.data_size()));
  const Schedule schedule = step_schedule(settings, mesh);
  if (schedule.num_stages > 1)
    settings.stages = cut_model(model_flops(settings), schedule, CutBy::even_compute);
  return settings;
}

}  // namespace strait
