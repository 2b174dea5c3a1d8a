#include "core/nn/model_rules.h"

#include <fmt/format.h>

namespace strait {
namespace {

// Notes a broken rule when it is not kept; `text` is evaluated only then.
class Rules {
 public:
  template <class... Args>
  void require(bool kept, const char* key, fmt::format_string<Args...> text, Args&&... args) {
    if (!kept) broken_.push_back({key, fmt::format(text, std::forward<Args>(args)...)});
  }
  std::vector<BrokenRule> take() { return std::move(broken_); }

 private:
  std::vector<BrokenRule> broken_;
};

void check_attention(const ModelSettings& model, Rules& rules) {
  rules.require(model.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim",
                "{} is odd, but RoPE turns channels in pairs", model.qk_rope_head_dim);
  const RopeScaling& rope = model.rope_scaling;
  rules.require(rope.beta_fast > rope.beta_slow, "rope_scaling.beta_fast",
                "{} must be above beta_slow = {}", rope.beta_fast, rope.beta_slow);
  rules.require(
      rope.factor == 1 || rope.original_max_position_embeddings <= model.max_position_embeddings,
      "rope_scaling.original_max_position_embeddings",
      "{} is more than max_position_embeddings = {}", rope.original_max_position_embeddings,
      model.max_position_embeddings);
}

void check_groups(const ModelSettings& model, Rules& rules) {
  const int64_t experts = model.n_routed_experts, groups = model.n_group;
  rules.require(model.topk_group <= groups, "topk_group", "{} is more than n_group = {}",
                model.topk_group, groups);
  rules.require(model.topk_method != "greedy" || groups == 1, "n_group",
                "topk_method greedy knows no groups: n_group must be 1, got {}", groups);
  if (experts % groups != 0) {
    rules.require(false, "n_routed_experts", "{} experts do not split into n_group = {} groups",
                  experts, groups);
    return;
  }
  const int64_t group_size = experts / groups, reachable = group_size * model.topk_group;
  rules.require(model.topk_method != "noaux_tc" || groups == 1 || group_size >= 2, "n_group",
                "noaux_tc ranks a group by its two best experts, but {} groups of {} have {} each",
                groups, experts, group_size);
  rules.require(model.num_experts_per_tok <= reachable, "num_experts_per_tok",
                "{} is more than the {} experts a token can reach (topk_group = {} groups of {})",
                model.num_experts_per_tok, reachable, model.topk_group, group_size);
}

void check_experts(const ModelSettings& model, Rules& rules) {
  rules.require(model.first_k_dense_replace <= model.num_hidden_layers, "first_k_dense_replace",
                "{} is more than num_hidden_layers = {}", model.first_k_dense_replace,
                model.num_hidden_layers);
  const bool has_experts = model.n_routed_experts > 0;
  const bool has_dense = !has_experts || model.first_k_dense_replace > 0;
  rules.require(!has_dense || model.intermediate_size > 0, "intermediate_size",
                "must be set: the model has dense layers");
  if (!has_experts) {
    rules.require(model.num_experts_per_tok == 0, "num_experts_per_tok",
                  "{} of no experts: n_routed_experts is 0", model.num_experts_per_tok);
    rules.require(model.n_shared_experts == 0, "n_shared_experts",
                  "{} beside no routed experts: n_routed_experts is 0", model.n_shared_experts);
    return;
  }
  rules.require(model.moe_intermediate_size > 0, "moe_intermediate_size",
                "must be set: the model has experts");
  rules.require(model.num_experts_per_tok > 0, "num_experts_per_tok",
                "must be set: the model has experts");
  check_groups(model, rules);
}

}  // namespace

std::vector<BrokenRule> broken_rules(const ModelSettings& model) {
  Rules rules;
  check_attention(model, rules);
  check_experts(model, rules);
  return rules.take();
}

}  // namespace strait
