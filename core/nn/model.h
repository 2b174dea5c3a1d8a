// core/nn/model.h: the parameters of a DeepSeek-V2/V3-shaped transformer, as one rank holds them.
//
// Names are Hugging Face's. Building a model allocates nothing: parallel/shard gives every
// parameter its storage. The MTP module is layer `num_hidden_layers`; its embedding and head are
// the main model's.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/autograd/parameter.h"
#include "core/nn/model_settings.h"

namespace strait {

struct AttentionParameters {
  Parameter* input_norm = nullptr;
  Parameter* q = nullptr;  // [N * (nope + rope), H], when q_lora_rank is 0
  Parameter *q_a = nullptr, *q_a_norm = nullptr, *q_b = nullptr;
  Parameter *kv_a = nullptr, *kv_a_norm = nullptr, *kv_b = nullptr;
  Parameter* o = nullptr;
  Parameter* mlp_norm = nullptr;  // post_attention_layernorm
};

struct MlpParameters {
  Parameter* gate_up = nullptr;  // [2F, H]: the rows of gate_proj, then of up_proj
  Parameter* down = nullptr;     // [H, F]
};

struct LayerParameters {
  AttentionParameters attention;
  bool is_moe = false;
  MlpParameters mlp;  // of a dense layer, or the shared experts (absent if n_shared_experts is 0)
  Parameter* router = nullptr;           // [E, H]
  Parameter* experts_gate_up = nullptr;  // [E_local, 2F, H]
  Parameter* experts_down = nullptr;     // [E_local, H, F]
  int moe_index = -1;                    // which row of the selection bias belongs to this layer
};

struct MtpParameters {
  Parameter *embedding_norm = nullptr, *hidden_norm = nullptr;  // enorm, hnorm
  Parameter* projection = nullptr;                              // eh_proj [H, 2H]
  Parameter* norm = nullptr;                                    // shared_head.norm
};

// The experts one rank holds, of the n_routed_experts of every MoE layer: equal stretches of ids,
// each `stride` behind the one before.
struct LocalExperts {
  int64_t first = 0;
  int64_t count = 0;
  int64_t num_stretches = 1;
  int64_t stride = 0;  // of several

  int64_t id(int64_t index) const {
    const int64_t length = count / num_stretches;
    return first + index / length * stride + index % length;
  }
};

// The part of the model that one pipeline position holds.
struct ModelPart {
  std::vector<bool> layers{};  // [num_layers]; empty: all
  bool embeds = true;          // the first stage
  bool has_head = true;        // the last one: final norm and head; with the MTP module's layer
};

struct Model {
  ModelSettings settings;
  LocalExperts experts;
  DType compute = DType::f32;                          // of activations
  std::vector<std::unique_ptr<Parameter>> parameters;  // in the order forward uses them

  Parameter* embedding = nullptr;  // also with the head where that or the MTP module reads it
  // num_hidden_layers, then the MTP block if there is one. Those of other positions have no
  // parameters.
  std::vector<LayerParameters> layers;
  Parameter* norm = nullptr;
  Parameter* head = nullptr;         // the embedding itself if tied
  std::optional<MtpParameters> mtp;  // null pointers where another position has its layer

  int num_moe_layers = 0;  // rows of the selection bias
  int64_t num_layers() const { return static_cast<int64_t>(layers.size()); }
  bool has_mtp() const { return mtp.has_value(); }
};

// What products multiply, by role: `compute`, which is FP32 or BF16, or e4m3. Embedding and head,
// the joining projection of the MTP module and what attention itself multiplies are of `compute`;
// norms and the router are FP32 always.
struct ModelFormats {
  ModelFormats(DType compute)  // NOLINT(google-explicit-constructor): one format for all
      : compute(compute), attention(compute), mlp(compute), experts(compute) {}
  DType compute;
  DType attention;  // its projections
  DType mlp;        // dense layers and shared experts
  DType experts;
  bool gradient_blocks = false;  // see Parameter
};

// REQUIRES: settings that passed the recipe's checks.
Model build_model(const ModelSettings& settings, LocalExperts experts, const ModelFormats& formats,
                  const ModelPart& part = {});

// Name of a MoE layer's selection bias: model.layers.{i}.mlp.gate.e_score_correction_bias.
std::string selection_bias_name(const Model& model, int64_t layer);

// Element [begin, begin + out.size()) of the flattened parameter at the start of training: matrices
// from N(0, initializer_range), norms 1. A function of (seed, Hugging Face name, index in that
// tensor) alone, so it is the same in every layout.
void initial_values(const Parameter& parameter, double initializer_range, uint64_t seed,
                    int64_t begin, std::span<float> out);

struct ParameterCounts {
  int64_t total = 0;   // trained elements, all experts and the MTP module included
  int64_t active = 0;  // used by one token in the main model: shared and top-k experts, embedding
                       // and head included
  int64_t active_matrix =
      0;  // elements a token is multiplied with in the main model: no embedding, no norms
  int64_t mtp_total = 0;
};
ParameterCounts count_parameters(const ModelSettings& settings);

}  // namespace strait
