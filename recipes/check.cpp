#include "recipes/check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

#include "optim/learning_rate.h"
#include "recipes/rules.h"

namespace strait {
namespace {

void check_attention(const ModelSettings& model, Rules& rules) {
  rules.require(model.qk_rope_head_dim % 2 == 0, "model.qk_rope_head_dim",
                "{} is odd, but RoPE turns channels in pairs", model.qk_rope_head_dim);
  const RopeScaling& rope = model.rope_scaling;
  if (rope.factor == 1) return;
  rules.require(rope.beta_fast > rope.beta_slow, "model.rope_scaling.beta_fast",
                "{} must be above beta_slow = {}", rope.beta_fast, rope.beta_slow);
  rules.require(rope.original_max_position_embeddings <= model.max_position_embeddings,
                "model.rope_scaling.original_max_position_embeddings",
                "{} is more than max_position_embeddings = {}",
                rope.original_max_position_embeddings, model.max_position_embeddings);
}

void check_groups(const ModelSettings& model, Rules& rules) {
  const int64_t experts = model.n_routed_experts, groups = model.n_group;
  rules.require(model.topk_group <= groups, "model.topk_group", "{} is more than n_group = {}",
                model.topk_group, groups);
  rules.require(model.topk_method != "greedy" || groups == 1, "model.n_group",
                "topk_method greedy knows no groups: n_group must be 1, got {}", groups);
  if (experts % groups != 0) {
    rules.require(false, "model.n_routed_experts",
                  "{} experts do not split into n_group = {} groups", experts, groups);
    return;
  }
  const int64_t group_size = experts / groups, reachable = group_size * model.topk_group;
  rules.require(model.topk_method != "noaux_tc" || groups == 1 || group_size >= 2, "model.n_group",
                "noaux_tc ranks a group by its two best experts, but {} groups of {} have {} each",
                groups, experts, group_size);
  rules.require(model.num_experts_per_tok <= reachable, "model.num_experts_per_tok",
                "{} is more than the {} experts a token can reach (topk_group = {} groups of {})",
                model.num_experts_per_tok, reachable, model.topk_group, group_size);
}

void check_experts(const Recipe& recipe, Rules& rules) {
  const ModelSettings& model = recipe.model;
  rules.require(model.first_k_dense_replace <= model.num_hidden_layers,
                "model.first_k_dense_replace", "{} is more than num_hidden_layers = {}",
                model.first_k_dense_replace, model.num_hidden_layers);
  const bool has_experts = model.n_routed_experts > 0;
  const bool has_dense = !has_experts || model.first_k_dense_replace > 0;
  rules.require(!has_dense || model.intermediate_size > 0, "model.intermediate_size",
                "must be set: the model has dense layers");
  if (!has_experts) {
    rules.require(model.num_experts_per_tok == 0, "model.num_experts_per_tok",
                  "{} of no experts: n_routed_experts is 0", model.num_experts_per_tok);
    rules.require(model.n_shared_experts == 0, "model.n_shared_experts",
                  "{} beside no routed experts: n_routed_experts is 0", model.n_shared_experts);
    rules.require(recipe.parallel.expert == 1, "parallel.expert",
                  "{} ranks share the experts, but n_routed_experts is 0", recipe.parallel.expert);
    return;
  }
  rules.require(model.moe_intermediate_size > 0, "model.moe_intermediate_size",
                "must be set: the model has experts");
  rules.require(model.num_experts_per_tok > 0, "model.num_experts_per_tok",
                "must be set: the model has experts");
  rules.require(model.topk_method == "noaux_tc" || recipe.balance.bias_update_speed == 0,
                "balance.bias_update_speed",
                "{} must be 0: only topk_method noaux_tc has a selection bias, the model's is {}",
                recipe.balance.bias_update_speed, model.topk_method);
  check_groups(model, rules);
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
  if (experts == 0) return;
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

}  // namespace

void check_recipe(const Recipe& recipe, Problems& problems) {
  Rules rules(recipe, problems);
  check_attention(recipe.model, rules);
  check_experts(recipe, rules);
  check_schedule(recipe, rules);
  check_run(recipe, rules);
  check_expert_ranks(recipe, rules);
  check_waves(recipe, rules);
}

}  // namespace strait
