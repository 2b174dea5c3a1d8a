#include "launch/engine/engine_settings.h"

#include <algorithm>

#include "core/thread_pool.h"
#include "recipes/formats.h"

namespace strait {

Mesh mesh_of(const Recipe& recipe, const Comm& comm) {
  return {comm.size(), static_cast<int>(recipe.parallel.pipeline),
          static_cast<int>(recipe.parallel.expert), comm.nodes()};
}

EngineSettings engine_settings(const Recipe& recipe, const Mesh& mesh, int num_threads) {
  const TrainSettings& train = recipe.train;
  const auto recomputes = [&](const char* what) {
    return std::find(train.recompute.begin(), train.recompute.end(), what) != train.recompute.end();
  };
  const std::string& wire = recipe.parallel.combine_wire;
  EngineSettings settings;
  settings.model = recipe.model;
  settings.optimizer = recipe.optimizer;
  settings.balance = recipe.balance;
  settings.mtp = recipe.mtp;
  settings.formats = formats_of(recipe);
  settings.combine_wire = wire == "auto"   ? settings.formats.compute
                          : wire == "fp32" ? DType::f32
                                           : DType::bf16;
  settings.fp8_sums = wire == "fp8";
  settings.fp8_dispatch = dispatches_fp8(recipe);
  settings.exchange = recipe.parallel.exchange;
  settings.exchange_chunks = static_cast<int>(recipe.parallel.exchange_chunks);
  settings.routed_headroom = recipe.parallel.routed_headroom;
  settings.overlap = recipe.parallel.overlap;
  settings.recompute = {.norms = recomputes("norms"),
                        .mla_up = recomputes("mla_up"),
                        .swiglu = recomputes("swiglu"),
                        .compact = keeps_fp8(recipe)};
  settings.sequence_length = train.sequence_length;
  settings.micro_batch = train.micro_batch;
  settings.num_microbatches = train.global_batch / (train.micro_batch * mesh.data_size());
  settings.num_threads = std::max(1, num_threads);
  return settings;
}

int threads_of_rank(const Recipe& recipe, const Comm& comm) {
  if (recipe.train.threads > 0) return static_cast<int>(recipe.train.threads);
  const auto& hosts = comm.hosts();
  const auto& mine = hosts[static_cast<size_t>(comm.rank().value)];
  return default_num_threads(static_cast<int>(std::count(hosts.begin(), hosts.end(), mine)));
}

}  // namespace strait
