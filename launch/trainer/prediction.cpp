#include "launch/trainer/prediction.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>

#include "launch/engine/engine_settings.h"
#include "launch/plan/stage_cut.h"
#include "launch/plan/step_costs.h"
#include "launch/trainer/report.h"
#include "launch/trainer/trainable.h"
#include "recipes/batch_ramp.h"
#include "recipes/formats.h"

namespace strait {
namespace {

// A line "VmHWM:    1234 kB" of /proc/self/status, in bytes.
int64_t process_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(key + ":", 0) == 0)
      return std::strtoll(line.c_str() + key.size() + 1, nullptr, 10) * 1024;
  return 0;
}

double tokens_of_run(const TrainSettings& train) {  // may be more than 64 bits hold
  return sequences_of_run(train) * static_cast<double>(train.sequence_length);
}

int64_t of(const MemoryUse& use, int purpose) { return use.bytes[static_cast<size_t>(purpose)]; }
const char* purpose_name(int purpose) { return name_of(static_cast<Purpose>(purpose)); }

std::string by_purpose(const MemoryUse& use) {
  std::string text;
  for (int purpose = 0; purpose < kNumPurposes; ++purpose)
    text += fmt::format("\"{}\":{},", purpose_name(purpose), of(use, purpose));
  return fmt::format("{{{}\"total\":{}}}", text, use.total());
}

Recipe in_bf16(Recipe recipe) {
  recipe.train.precision = "bf16";
  recipe.formats = {};
  for (std::string* wire : {&recipe.parallel.dispatch_wire, &recipe.parallel.combine_wire})
    if (*wire == "fp8") *wire = "auto";
  return recipe;
}

// Bytes of a row that goes to another rank's experts and comes back, in forward and in backward.
double row_bytes(const Recipe& recipe) {
  const EngineSettings settings = engine_settings(recipe, Mesh(1, 1, 1), 1);
  double sum = 0;
  for (const auto& [key, bytes] : exchange_bytes(settings, settings.fp8_dispatch)) sum += bytes.row;
  return sum;
}

std::string exchange_text(const Recipe& recipe) {
  if (!uses_fp8(recipe) || recipe.parallel.expert == 1) return "";
  return fmt::format(
      "\nexchange    a row to another rank's experts and back, twice: {} B (all in BF16: {} B)",
      row_bytes(recipe), row_bytes(in_bf16(recipe)));
}

}  // namespace

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

MemoryUse predict_memory(const Recipe& recipe, const Mesh& mesh, Rank rank, int num_threads,
                         const std::vector<RoutedRows>& loads) {
  EngineSettings settings = training_settings(recipe, mesh, num_threads);
  settings.fewer = {};
  // On one position each micro-batch, or pair of them, repeats the one before: few tell the peak.
  if (mesh.pipeline_size() == 1 && settings.schedule == "1f1b")
    settings.num_microbatches = std::min<int64_t>(settings.num_microbatches, 4);
  Engine engine(settings, mesh, rank, nullptr, Device::meta);
  if (!loads.empty()) engine.expect_loads(loads);
  engine.initialise(0);
  engine.run_step({}, 0);
  engine.run_step({}, 0);
  engine.settle(0);
  return engine.ctx().memory().at_peak();
}

Prediction predict(const Recipe& recipe, int64_t ranks) {
  require_trainable(recipe, ranks);
  const Mesh mesh(static_cast<int>(ranks), static_cast<int>(recipe.parallel.pipeline),
                  static_cast<int>(recipe.parallel.expert));
  Prediction prediction{.ranks = ranks,
                        .parameters = count_parameters(recipe.model),
                        .flops_per_token = predict_flops_per_token(recipe)};
  for (int position = 0; position < mesh.pipeline_size(); ++position) {
    prediction.memory.push_back(predict_memory(recipe, mesh, mesh.rank_at({.pipeline = position}),
                                               static_cast<int>(recipe.train.threads), {}));
    if (prediction.memory.back().total() > prediction.fullest_memory().total())
      prediction.fullest = position;
  }
  if (uses_fp8(recipe))
    prediction.fullest_in_bf16 =
        predict_memory(in_bf16(recipe), mesh, mesh.rank_at({.pipeline = prediction.fullest}),
                       static_cast<int>(recipe.train.threads), {});
  return prediction;
}

std::string to_table(const Recipe& recipe, const Prediction& p) {
  const TrainSettings& train = recipe.train;
  const auto millions = [](int64_t count) {
    return fmt::format("{:.2f} M", static_cast<double>(count) / 1e6);
  };
  std::string text = fmt::format("layout      {} ranks: data {} x pipeline {}, experts over {}\n",
                                 p.ranks, p.ranks / recipe.parallel.pipeline,
                                 recipe.parallel.pipeline, recipe.parallel.expert);
  text += fmt::format("parameters  {} in all, {} used by a token; MTP module {} of them\n",
                      millions(p.parameters.total), millions(p.parameters.active),
                      millions(p.parameters.mtp_total));
  const double tokens = tokens_of_run(train);
  text += fmt::format("tokens      {:.4g} in {} steps of {} x {}\n", tokens, train.steps,
                      train.global_batch, train.sequence_length);
  text += fmt::format("compute     {:.4g} FLOPs a token, {:.4g} in all\n", p.flops_per_token,
                      p.flops_per_token * tokens);
  const MemoryUse& memory = p.fullest_memory();
  text += fmt::format(
      "memory of one rank{} at the peak of a step, expert load even (predicted):\n",
      p.memory.size() > 1 ? fmt::format(" of position {}, which has most,", p.fullest) : "");
  const auto line = [&](const char* name, int64_t bytes, int64_t bytes_in_bf16) {
    return fmt::format(
        "  {:<16}{:>14}{}", name, bytes_text(static_cast<double>(bytes)),
        p.fullest_in_bf16 ? fmt::format("{:>14}", bytes_text(double(bytes_in_bf16))) : "");
  };
  const MemoryUse other = p.fullest_in_bf16.value_or(MemoryUse{});
  if (p.fullest_in_bf16) text += fmt::format("{:>32}{:>14}\n", "as set", "all in BF16");
  for (int purpose = 0; purpose < kNumPurposes; ++purpose)
    text += line(purpose_name(purpose), of(memory, purpose), of(other, purpose)) + "\n";
  return text + line("total", memory.total(), other.total()) + exchange_text(recipe);
}

std::string to_json(const Recipe& recipe, const Prediction& p) {
  return fmt::format(
      R"({{"kind":"dry_run","ranks":{},"expert":{},"parameters":{},"active_parameters":{},"mtp_parameters":{},)"
      R"("flops_per_token":{},"tokens":{:.0f},"memory_bytes":{}{}}})",
      p.ranks, recipe.parallel.expert, p.parameters.total, p.parameters.active,
      p.parameters.mtp_total, p.flops_per_token, tokens_of_run(recipe.train),
      by_purpose(p.fullest_memory()),
      p.fullest_in_bf16 ? ",\"bf16_memory_bytes\":" + by_purpose(*p.fullest_in_bf16) : "");
}

MeasuredMemory measure_memory(const Memory& memory, int64_t rss_start_bytes) {
  return {.tensors = memory.at_peak(),
          .rss_start_bytes = rss_start_bytes,
          .rss_peak_bytes = process_bytes("VmHWM")};
}

int64_t resident_bytes() { return process_bytes("VmRSS"); }

std::string memory_table(Rank rank, const MemoryUse& even, const MemoryUse& met,
                         const MeasuredMemory& measured) {
  const auto text_of = [](int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
  const auto line = [&](const char* name, int64_t a, int64_t b, int64_t c) {
    return fmt::format("  {:<16}{:>12}{:>12}{:>12}\n", name, text_of(a), text_of(b), text_of(c));
  };
  std::string text = fmt::format(
      "memory of rank {}, the fullest; predicted for the experts' load\n  "
      "{:<16}{:>12}{:>12}{:>12}\n",
      rank.value, "", "if even", "as it was", "measured");
  for (int purpose = 0; purpose < kNumPurposes; ++purpose)
    text += line(purpose_name(purpose), of(even, purpose), of(met, purpose),
                 of(measured.tensors, purpose));
  text += line("total", even.total(), met.total(), measured.tensors.total());
  return text +
         fmt::format("  resident memory of the process: {} at the start, {} more at its peak",
                     text_of(measured.rss_start_bytes),
                     text_of(measured.rss_peak_bytes - measured.rss_start_bytes));
}

std::string memory_json(Rank rank, const MemoryUse& even, const MemoryUse& met,
                        const MeasuredMemory& measured) {
  return fmt::format(
      R"({{"kind":"memory","rank":{},"predicted_even_bytes":{},"predicted_bytes":{},"measured_bytes":{},"rss_start_bytes":{},"rss_peak_bytes":{}}})",
      rank.value, by_purpose(even), by_purpose(met), by_purpose(measured.tensors),
      measured.rss_start_bytes, measured.rss_peak_bytes);
}

}  // namespace strait
