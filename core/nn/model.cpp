#include "core/nn/model.h"

#include <fmt/format.h>

namespace strait {
namespace {

// Adds parameters to a model under the names of one layer.
class Builder {
 public:
  Builder(Model& model, const ModelFormats& formats)
      : model_(model), s_(model.settings), formats_(formats) {}

  Parameter* matrix(const std::string& name, int64_t out, int64_t in) {
    return matrix(name, out, in, formats_.compute);
  }
  Parameter* matrix(const std::string& name, int64_t out, int64_t in, DType operands) {
    return add({.name = name,
                .parts = {{name + ".weight", 0, out}},
                .shape = {out, in},
                .dtype = model_.compute,
                .operands = operands,
                .role = Role::linear});
  }
  Parameter* norm(const std::string& name, int64_t size) {
    return add({.name = name,
                .parts = {{name + ".weight", 0, 1}},
                .shape = {size},
                .role = Role::norm,
                .decay = false});
  }
  MlpParameters mlp(const std::string& prefix, int64_t width) {
    const int64_t hidden = s_.hidden_size;
    Parameter* gate_up = add({.name = prefix + ".gate_up",
                              .parts = {{prefix + ".gate_proj.weight", 0, width},
                                        {prefix + ".up_proj.weight", width, width}},
                              .shape = {2 * width, hidden},
                              .dtype = model_.compute,
                              .operands = formats_.mlp,
                              .role = Role::linear});
    return {.gate_up = gate_up, .down = matrix(prefix + ".down_proj", hidden, width, formats_.mlp)};
  }
  AttentionParameters attention(const std::string& layer) {
    const auto projection = [this](const std::string& name, int64_t out, int64_t in) {
      return matrix(name, out, in, formats_.attention);
    };
    const std::string prefix = layer + ".self_attn";
    const int64_t heads = s_.num_attention_heads, hidden = s_.hidden_size;
    const int64_t qk = s_.qk_nope_head_dim + s_.qk_rope_head_dim;
    AttentionParameters p;
    p.input_norm = norm(layer + ".input_layernorm", hidden);
    if (s_.q_lora_rank > 0) {
      p.q_a = projection(prefix + ".q_a_proj", s_.q_lora_rank, hidden);
      p.q_a_norm = norm(prefix + ".q_a_layernorm", s_.q_lora_rank);
      p.q_b = projection(prefix + ".q_b_proj", heads * qk, s_.q_lora_rank);
    } else {
      p.q = projection(prefix + ".q_proj", heads * qk, hidden);
    }
    p.kv_a =
        projection(prefix + ".kv_a_proj_with_mqa", s_.kv_lora_rank + s_.qk_rope_head_dim, hidden);
    p.kv_a_norm = norm(prefix + ".kv_a_layernorm", s_.kv_lora_rank);
    p.kv_b = projection(prefix + ".kv_b_proj", heads * (s_.qk_nope_head_dim + s_.v_head_dim),
                        s_.kv_lora_rank);
    p.o = projection(prefix + ".o_proj", hidden, heads * s_.v_head_dim);
    p.mlp_norm = norm(layer + ".post_attention_layernorm", hidden);
    return p;
  }
  Parameter* expert_stack(const std::string& prefix, const std::vector<std::string>& projections,
                          int64_t out, int64_t in) {
    const auto count = static_cast<int64_t>(projections.size());
    Parameter stack{.name = prefix + ".experts." + (count == 2 ? "gate_up" : "down"),
                    .shape = {model_.experts.count, out * count, in},
                    .dtype = model_.compute,
                    .operands = formats_.experts,
                    .role = Role::expert_stack,
                    .replicas = Replicas::expert};
    for (int64_t expert = 0; expert < model_.experts.count; ++expert)
      for (int64_t index = 0; index < count; ++index)
        stack.parts.push_back(
            {fmt::format("{}.experts.{}.{}.weight", prefix, model_.experts.id(expert),
                         projections[static_cast<size_t>(index)]),
             (expert * count + index) * out, out});
    return add(std::move(stack));
  }
  void layer(int64_t index, bool here) {
    const std::string name = fmt::format("model.layers.{}", index);
    LayerParameters p;
    p.is_moe = s_.n_routed_experts > 0 && index >= s_.first_k_dense_replace;
    if (p.is_moe) p.moe_index = model_.num_moe_layers++;
    if (here) fill(name, p);
    model_.layers.push_back(p);
  }
  void mtp(bool here) {
    const std::string name = fmt::format("model.layers.{}", s_.num_hidden_layers);
    MtpParameters p;
    if (here) {
      p.embedding_norm = norm(name + ".enorm", s_.hidden_size);
      p.hidden_norm = norm(name + ".hnorm", s_.hidden_size);
      p.projection = matrix(name + ".eh_proj", s_.hidden_size, 2 * s_.hidden_size);
    }
    layer(s_.num_hidden_layers, here);
    if (here) p.norm = norm(name + ".shared_head.norm", s_.hidden_size);
    model_.mtp = p;
  }
  Parameter* embedding() {
    return add({.name = "model.embed_tokens",
                .parts = {{"model.embed_tokens.weight", 0, s_.vocab_size}},
                .shape = {s_.vocab_size, s_.hidden_size},
                .dtype = model_.compute,
                .operands = formats_.compute,
                .role = Role::embedding,
                .decay = false});
  }

 private:
  void fill(const std::string& name, LayerParameters& p) {
    p.attention = attention(name);
    if (!p.is_moe) {
      p.mlp = mlp(name + ".mlp", s_.intermediate_size);
    } else {
      p.router = matrix(name + ".mlp.gate", s_.n_routed_experts, s_.hidden_size);
      p.router->dtype = p.router->operands = DType::f32;
      if (s_.n_shared_experts > 0)
        p.mlp = mlp(name + ".mlp.shared_experts", s_.moe_intermediate_size * s_.n_shared_experts);
      p.experts_gate_up = expert_stack(name + ".mlp", {"gate_proj", "up_proj"},
                                       s_.moe_intermediate_size, s_.hidden_size);
      p.experts_down =
          expert_stack(name + ".mlp", {"down_proj"}, s_.hidden_size, s_.moe_intermediate_size);
    }
  }
  Parameter* add(Parameter parameter) {
    parameter.gradient_blocks = formats_.gradient_blocks;
    model_.parameters.push_back(std::make_unique<Parameter>(std::move(parameter)));
    return model_.parameters.back().get();
  }
  Model& model_;
  const ModelSettings& s_;
  const ModelFormats formats_;
};

}  // namespace

Model build_model(const ModelSettings& settings, LocalExperts experts, const ModelFormats& formats,
                  const ModelPart& part) {
  Model model;
  model.settings = settings;
  model.experts = experts;
  model.compute = formats.compute;
  Builder builder(model, formats);
  const bool has_mtp = settings.num_nextn_predict_layers > 0;
  const auto here = [&](int64_t layer) {
    return part.layers.empty() || part.layers.at(static_cast<size_t>(layer));
  };
  if (part.embeds || (part.has_head && (has_mtp || settings.tie_word_embeddings)))
    model.embedding = builder.embedding();
  for (int64_t index = 0; index < settings.num_hidden_layers; ++index)
    builder.layer(index, here(index));
  if (part.has_head) {
    model.norm = builder.norm("model.norm", settings.hidden_size);
    model.head = settings.tie_word_embeddings
                     ? model.embedding
                     : builder.matrix("lm_head", settings.vocab_size, settings.hidden_size);
  }
  if (has_mtp) builder.mtp(here(settings.num_hidden_layers));
  return model;
}

std::string selection_bias_name(const Model& model, int64_t layer) {
  STRAIT_CHECK(model.layers.at(static_cast<size_t>(layer)).is_moe);
  return fmt::format("model.layers.{}.mlp.gate.e_score_correction_bias", layer);
}

ParameterCounts count_parameters(const ModelSettings& settings) {
  const Model model = build_model(settings, {0, settings.n_routed_experts}, DType::f32);
  ParameterCounts counts;
  const std::string mtp_prefix = fmt::format("model.layers.{}.", settings.num_hidden_layers);
  for (const auto& parameter : model.parameters) {
    const int64_t numel = parameter->shape.numel();
    counts.total += numel;
    if (parameter->name.starts_with(mtp_prefix)) {
      counts.mtp_total += numel;
      continue;
    }
    const int64_t used = parameter->role == Role::expert_stack
                             ? numel / settings.n_routed_experts * settings.num_experts_per_tok
                             : numel;
    counts.active += used;
    const bool multiplies = parameter->role == Role::linear ||
                            parameter->role == Role::expert_stack || parameter.get() == model.head;
    if (multiplies) counts.active_matrix += used;
  }
  return counts;
}

}  // namespace strait
