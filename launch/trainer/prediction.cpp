#include "launch/trainer/prediction.h"

#include <fmt/format.h>

#include "launch/engine/engine_settings.h"
#include "launch/trainer/report.h"
#include "recipes/check.h"

namespace strait {

double predict_flops_per_token(const Recipe& recipe) {
  EngineSettings settings = engine_settings(recipe, Mesh(1, 1, 1), 1);
  settings.recompute = {.norms = false, .mla_up = false, .swiglu = false};
  settings.micro_batch = settings.num_microbatches = 1;
  Engine engine(settings, Mesh(1, 1, 1), Rank{0}, nullptr, Device::meta);
  engine.initialise(0);
  engine.ctx().reset_spent();
  engine.run_step({}, 0);
  return engine.ctx().spent().flops / static_cast<double>(recipe.train.sequence_length);
}

Prediction predict(const Recipe& recipe, int64_t ranks) {
  check_layout(recipe, ranks);
  const Mesh mesh(static_cast<int>(ranks), 1, static_cast<int>(recipe.parallel.expert));
  EngineSettings settings = engine_settings(recipe, mesh, 1);
  // Micro-batches run one after another, so two tell the peak.
  settings.num_microbatches = std::min<int64_t>(settings.num_microbatches, 2);
  Engine engine(settings, mesh, Rank{0}, nullptr, Device::meta);
  engine.initialise(0);
  engine.run_step({}, 0);
  engine.run_step({}, 0);
  engine.settle(0);
  return {.ranks = ranks,
          .parameters = count_parameters(recipe.model),
          .flops_per_token = predict_flops_per_token(recipe),
          .memory = engine.ctx().memory().at_peak()};
}

std::string to_table(const Recipe& recipe, const Prediction& p) {
  const TrainSettings& train = recipe.train;
  const auto millions = [](int64_t count) { return fmt::format("{:.2f} M", static_cast<double>(count) / 1e6); };
  std::string text = fmt::format("layout      {} ranks: data {} x pipeline {}, experts over {}\n", p.ranks,
                                 p.ranks / recipe.parallel.pipeline, recipe.parallel.pipeline,
                                 recipe.parallel.expert);
  text += fmt::format("parameters  {} in all, {} used by a token; MTP module {} of them\n",
                      millions(p.parameters.total), millions(p.parameters.active),
                      millions(p.parameters.mtp_total));
  const double tokens = static_cast<double>(train.steps * train.global_batch * train.sequence_length);
  text += fmt::format("tokens      {:.4g} in {} steps of {} x {}\n", tokens, train.steps,
                      train.global_batch, train.sequence_length);
  text += fmt::format("compute     {:.4g} FLOPs a token, {:.4g} in all\n", p.flops_per_token,
                      p.flops_per_token * tokens);
  text += "memory of one rank at the peak of a step, expert load even (predicted):\n";
  for (int purpose = 0; purpose < kNumPurposes; ++purpose)
    text += fmt::format("  {:<16}{:>14}\n", name_of(static_cast<Purpose>(purpose)),
                        bytes_text(static_cast<double>(p.memory.bytes[static_cast<size_t>(purpose)])));
  return text + fmt::format("  {:<16}{:>14}", "total", bytes_text(static_cast<double>(p.memory.total())));
}

std::string to_json(const Recipe& recipe, const Prediction& p) {
  std::string memory;
  for (int purpose = 0; purpose < kNumPurposes; ++purpose)
    memory += fmt::format("{}\"{}\":{}", purpose == 0 ? "" : ",", name_of(static_cast<Purpose>(purpose)),
                          p.memory.bytes[static_cast<size_t>(purpose)]);
  return fmt::format(
      R"({{"kind":"dry_run","ranks":{},"expert":{},"parameters":{},"active_parameters":{},"mtp_parameters":{},)"
      R"("flops_per_token":{},"tokens":{},"memory_bytes":{{{},"total":{}}}}})",
      p.ranks, recipe.parallel.expert, p.parameters.total, p.parameters.active, p.parameters.mtp_total,
      p.flops_per_token, recipe.train.steps * recipe.train.global_batch * recipe.train.sequence_length,
      memory, p.memory.total());
}

}  // namespace strait
