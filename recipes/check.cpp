#include "recipes/check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

#include "core/nn/model_rules.h"
#include "optim/learning_rate.h"
#include "recipes/cluster.h"
#include "recipes/formats.h"
#include "recipes/rules.h"

namespace strait {
namespace {

void check_model(const Recipe& recipe, Rules& rules) {
  for (const BrokenRule& broken : broken_rules(recipe.model))
    rules.require(false, "model." + broken.key, "{}", broken.text);
}

void check_balance(const Recipe& recipe, Rules& rules) {
  const ModelSettings& model = recipe.model;
  rules.require(model.n_routed_experts == 0 || model.topk_method == "noaux_tc" ||
                    recipe.balance.bias_update_speed == 0,
                "balance.bias_update_speed",
                "{} must be 0: only topk_method noaux_tc has a selection bias, the model's is {}",
                recipe.balance.bias_update_speed, model.topk_method);
}

// What NVIDIA's and Strait's own FP8 products ask of a matrix: rows of whole 16-byte words.
constexpr int64_t kFp8Multiple = 16;

void check_formats(const Recipe& recipe, Rules& rules) {
  const FormatSettings& f = recipe.formats;
  for (const auto& [key, role] : {std::pair{"formats.attention", f.attention},
                                  {"formats.mlp", f.mlp},
                                  {"formats.experts", f.experts},
                                  {"formats.caches", f.caches},
                                  {"parallel.dispatch_wire", recipe.parallel.dispatch_wire}})
    rules.require(role == "auto" || recipe.train.precision != "fp32", key,
                  "{} needs train.precision bf16 or fp8, it is fp32", role);
  rules.require(recipe.parallel.combine_wire != "fp8" || recipe.train.precision != "fp32",
                "parallel.combine_wire", "fp8 needs train.precision bf16 or fp8, it is fp32");
  rules.require(!dispatches_fp8(recipe) || recipe.model.hidden_size % 4 == 0,
                "parallel.dispatch_wire", "fp8: hidden_size {} is not a multiple of 4",
                recipe.model.hidden_size);
  rules.require(f.gradients == "1x128" || multiplies_fp8(recipe), "formats.gradients",
                "{} needs layers that multiply fp8", f.gradients);
  if (!broken_rules(recipe.model).empty()) return;
  const Model model = build_model(
      recipe.model, {0, std::min<int64_t>(1, recipe.model.n_routed_experts)}, formats_of(recipe));
  for (const auto& parameter : model.parameters) {
    if (parameter->operands != DType::e4m3) continue;
    const int64_t in = parameter->num_cols(), out = parameter->shape[parameter->shape.rank() - 2];
    if (in % kFp8Multiple == 0 && out % kFp8Multiple == 0) continue;
    const std::string& name = parameter->name;
    const auto& [key, role] =
        parameter->role == Role::expert_stack   ? std::pair("formats.experts", f.experts)
        : name.find(".self_attn.") != name.npos ? std::pair("formats.attention", f.attention)
                                                : std::pair("formats.mlp", f.mlp);
    rules.require(
        false, role == "auto" ? "train.precision" : key,
        "fp8: {} is {} x {}; both must be multiples of {} (bf16 has no such rule, section "
        "formats sets single roles)",
        name, out, in, kFp8Multiple);
    return;
  }
}

void check_stages(const Recipe& recipe, Rules& rules) {
  int64_t before = recipe.schedule.warmup_steps;
  const auto& stages = recipe.schedule.stages;
  for (size_t i = 0; i < stages.size(); ++i) {
    const ScheduleStage& stage = stages[i];
    const std::string key = fmt::format("schedule.stages[{}]", i);
    if ((stage.until_step > 0) == (stage.until_fraction > 0)) {
      rules.require(false, key, "needs one of until_step and until_fraction, has {}",
                    stage.until_step > 0 ? "both" : "neither");
      continue;
    }
    const int64_t last = last_step(stage, recipe.train.steps);
    rules.require(last > before, key, "ends with step {}, which must be after step {} ({})", last,
                  before, i == 0 ? "the end of the warm-up" : "the end of the stage before");
    rules.require(last <= recipe.train.steps, key,
                  "ends with step {}, after the run's last step {}", last, recipe.train.steps);
    before = std::max(before, last);
  }
}

void check_schedule(const Recipe& recipe, Rules& rules) {
  const ScheduleSettings& schedule = recipe.schedule;
  const int64_t steps = recipe.train.steps;
  const bool cosine = schedule.kind == "cosine", staged = schedule.kind == "multi_stage";
  rules.require(schedule.warmup_steps <= steps, "schedule.warmup_steps",
                "{} is more than train.steps = {}", schedule.warmup_steps, steps);
  rules.require(schedule.min_lr <= schedule.peak_lr, "schedule.min_lr",
                "{} is more than peak_lr = {}", schedule.min_lr, schedule.peak_lr);
  rules.require(cosine || schedule.min_lr == 0, "schedule.min_lr",
                "kind {} does not use it; only cosine does", schedule.kind);
  rules.require(cosine || schedule.decay_start_step == 0, "schedule.decay_start_step",
                "kind {} does not use it; only cosine does", schedule.kind);
  rules.require(staged || schedule.stages.empty(), "schedule.stages",
                "kind {} does not use them; only multi_stage does", schedule.kind);
  rules.require(!staged || !schedule.stages.empty(), "schedule.stages",
                "kind multi_stage needs at least one stage");
  if (cosine && schedule.decay_start_step > 0) {
    rules.require(schedule.decay_start_step >= schedule.warmup_steps, "schedule.decay_start_step",
                  "{} is before the end of the warm-up, {}", schedule.decay_start_step,
                  schedule.warmup_steps);
    rules.require(schedule.decay_start_step < steps, "schedule.decay_start_step",
                  "{} must be below train.steps = {}", schedule.decay_start_step, steps);
  }
  if (staged) check_stages(recipe, rules);
}

void check_batch_ramp(const Recipe& recipe, Rules& rules) {
  const BatchRampSettings& ramp = recipe.train.batch_ramp;
  const int64_t whole = recipe.train.global_batch, left = whole - ramp.from;
  if (ramp.from == 0) {
    const char* first =
        ramp.increment > 0 ? "train.batch_ramp.increment" : "train.batch_ramp.tokens";
    rules.require(ramp.increment == 0 && ramp.tokens == 0, first,
                  "there is no ramp without train.batch_ramp.from");
    return;
  }
  rules.require(left > 0, "train.batch_ramp.from",
                "{} sequences are not fewer than global_batch = {}", ramp.from, whole);
  rules.require(ramp.tokens > 0, "train.batch_ramp.tokens", "a ramp needs it, 1 at least");
  rules.require(ramp.increment > 0, "train.batch_ramp.increment", "a ramp needs it, 1 at least");
  if (left <= 0 || ramp.increment == 0 || left % ramp.increment == 0) return;
  int64_t below = 1, above = left;  // divisors of what is left
  for (int64_t d = 1; d * d <= left; ++d)
    for (const int64_t divisor : {d, left / d})
      if (left % d == 0 && divisor < ramp.increment)
        below = std::max(below, divisor);
      else if (left % d == 0)
        above = std::min(above, divisor);
  rules.require(false, "train.batch_ramp.increment",
                "{} sequences at a time do not lead from {} to global_batch = {}; the nearest that "
                "do: {}",
                ramp.increment, ramp.from, whole,
                below == above ? fmt::format("{}", below) : fmt::format("{} or {}", below, above));
}

void check_run(const Recipe& recipe, Rules& rules) {
  const TrainSettings& train = recipe.train;
  rules.require(train.sequence_length <= recipe.model.max_position_embeddings,
                "train.sequence_length", "{} is more than model.max_position_embeddings = {}",
                train.sequence_length, recipe.model.max_position_embeddings);
  rules.require(train.global_batch % train.micro_batch == 0, "train.micro_batch",
                "{} sequences do not divide global_batch = {}", train.micro_batch,
                train.global_batch);
  rules.require(!recipe.data.corpus.empty(), "data.corpus", "must name a folder");
  rules.require(!recipe.run.dir.empty(), "run.dir", "must name a folder");
  const std::string& name = recipe.run.name;
  const bool is_folder_name = name != "." && name != ".." && name.size() <= 200 &&
                              name.find('/') == std::string::npos &&
                              name.find('\0') == std::string::npos;
  rules.require(is_folder_name, "run.name", "'{}' cannot name a folder", name);
}

void check_expert_ranks(const Recipe& recipe, Rules& rules) {
  const int64_t ranks = recipe.parallel.expert, experts = recipe.model.n_routed_experts;
  if (experts == 0) {
    rules.require(ranks == 1, "parallel.expert",
                  "{} ranks share the experts, but n_routed_experts is 0", ranks);
    return;
  }
  std::vector<int64_t> works;
  for (int64_t n = 1; n <= experts; n *= 2)
    if (experts % n == 0) works.push_back(n);
  const bool kept = std::has_single_bit(static_cast<uint64_t>(ranks)) && experts % ranks == 0;
  rules.require(kept, "parallel.expert",
                "{} must be a power of two that divides n_routed_experts = {}; these do: {}", ranks,
                experts, fmt::join(works, ", "));
}

void check_waves(const Recipe& recipe, Rules& rules) {
  const int64_t waves = recipe.parallel.waves, experts = recipe.model.n_routed_experts;
  if (waves == 1 || recipe.parallel.expert == 0 || experts % recipe.parallel.expert != 0) return;
  const int64_t own = experts / recipe.parallel.expert;
  std::vector<int64_t> works;
  for (int64_t n = 1; n <= own; ++n)
    if (own % n == 0) works.push_back(n);
  rules.require(own > 0 && own % waves == 0, "parallel.waves",
                "{} parts do not split the {} experts of a rank; these do: {}", waves, own,
                works.empty() ? "1" : fmt::format("{}", fmt::join(works, ", ")));
}

// The planner chooses all four, or none.
void check_auto_schedule(const Recipe& recipe, Rules& rules) {
  const ParallelSettings& parallel = recipe.parallel;
  if (parallel.schedule != kAutoSchedule) return;
  rules.require(!parallel.cluster.empty(), "parallel.cluster",
                "schedule auto is chosen for a cluster; name one of these, or a file: {}",
                fmt::join(cluster_names(), ", "));
  const char* const chooses = "is chosen with schedule auto; leave it out";
  rules.require(parallel.chunks == 0, "parallel.chunks", "{}", chooses);
  rules.require(!parallel.pairs, "parallel.pairs", "{}", chooses);
  rules.require(parallel.waves == 1, "parallel.waves", "{}", chooses);
}

}  // namespace

void check_recipe(const Recipe& recipe, Problems& problems) {
  Rules rules(recipe, problems);
  check_model(recipe, rules);
  check_balance(recipe, rules);
  check_formats(recipe, rules);
  check_schedule(recipe, rules);
  check_run(recipe, rules);
  check_batch_ramp(recipe, rules);
  check_expert_ranks(recipe, rules);
  check_waves(recipe, rules);
  check_auto_schedule(recipe, rules);
}

}  // namespace strait
