#include "core/nn/decode.h"

#include <algorithm>
#include <cstring>

#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/latent_attention.h"
#include "core/ops/rms_norm.h"

namespace strait {
namespace {

constexpr int64_t kChunkTokens = 256;

template <class T>
Tensor tensor_of(Context& ctx, std::span<const T> values, Purpose purpose) {
  Tensor tensor = ctx.empty({static_cast<int64_t>(values.size())}, dtype_of<T>(), purpose);
  std::memcpy(tensor.raw(), values.data(), values.size_bytes());
  return tensor;
}

// Rows [begin, begin + count) of every head of kv_b_proj [N * rows_per_head, C] as [N, count, C].
Tensor rows_of_heads(Context& ctx, const Tensor& kv_b, int64_t heads, int64_t begin,
                     int64_t count) {
  const int64_t latent = kv_b.cols(), rows_per_head = kv_b.rows() / heads;
  Tensor rows = ctx.empty({heads, count * latent}, kv_b.dtype(), Purpose::workspace);
  cast(ctx, kv_b.view({heads, rows_per_head * latent}).slice_cols(begin * latent, count * latent),
       rows);
  return rows.view({heads, count, latent});
}

// The (token, expert) pairs of `ids`, sorted by expert, then by token.
ExpertBatch sorted_pairs(Context& ctx, std::shared_ptr<Value> x, const Tensor& ids_TK,
                         const Tensor& weights_TK, int64_t num_experts) {
  const auto ids = ids_TK.span<int32_t>();
  const auto weights = weights_TK.span<float>();
  const auto top_k = static_cast<size_t>(ids_TK.cols());
  auto offsets = std::make_shared<std::vector<int64_t>>(static_cast<size_t>(num_experts) + 1, 0);
  for (const int32_t id : ids) ++(*offsets)[static_cast<size_t>(id) + 1];
  for (size_t expert = 1; expert < offsets->size(); ++expert)
    (*offsets)[expert] += (*offsets)[expert - 1];

  std::vector<int64_t> next(offsets->begin(), offsets->end() - 1);
  std::vector<int32_t> row_of_pair(ids.size()), experts(ids.begin(), ids.end()), places(ids.size());
  std::vector<int32_t> row_offsets{0};
  std::vector<float> pair_weights(ids.size());
  for (size_t first = 0; first < ids.size(); first += top_k) {
    for (size_t pair = first; pair < first + top_k; ++pair) {
      const auto place = static_cast<size_t>(next[static_cast<size_t>(ids[pair])]++);
      row_of_pair[place] = static_cast<int32_t>(first / top_k);
      pair_weights[place] = weights[pair];
    }
    // By expert, which is also the order of their places.
    std::sort(experts.begin() + static_cast<int64_t>(first),
              experts.begin() + static_cast<int64_t>(first + top_k));
    for (size_t pair = first; pair < first + top_k; ++pair)
      places[pair] = static_cast<int32_t>(next[static_cast<size_t>(experts[pair])] - 1);
    row_offsets.push_back(static_cast<int32_t>(first + top_k));
  }
  auto map = std::make_shared<PairMap>();
  const auto ints = [&](const std::vector<int32_t>& values) {
    return tensor_of(ctx, std::span<const int32_t>(values), Purpose::routed);
  };
  map->row_of_pair = ints(row_of_pair);
  map->pairs_of_row = {
      .offsets = ints(row_offsets), .experts = ints(experts), .rows = ints(places)};
  map->range = {0, num_experts};
  return {.rows = std::move(x),
          .pair_weights = tensor_of(ctx, std::span<const float>(pair_weights), Purpose::routed),
          .offsets = offsets,
          .pairs = map};
}

}  // namespace

// Rows of heads stand token by token in q and o, and head by head where each head has its own
// matrix.
struct Decoder::Chunk {
  int64_t tokens = 0;
  std::vector<int64_t> offsets;        // [N + 1]: rows of each head
  Tensor token_rows_NT, head_rows_TN;  // i32: where row (head, token) stands in the other order
};

Decoder::Decoder(Context& ctx, const Model& model, std::span<const float> selection_bias,
                 int64_t max_positions)
    : ctx_(ctx), model_(model) {
  const ModelSettings& s = model.settings;
  STRAIT_CHECK(model.experts.count == s.n_routed_experts,
               "decoding needs all experts on this rank");
  STRAIT_CHECK(static_cast<int64_t>(selection_bias.size()) ==
               model.num_moe_layers * s.n_routed_experts);
  const RopeScaling& r = s.rope_scaling;
  const YarnScaling yarn{r.factor,    r.original_max_position_embeddings,
                         r.beta_fast, r.beta_slow,
                         r.mscale,    r.mscale_all_dim};
  run_.ctx = &ctx;
  run_.model = &model;
  run_.rope = std::make_shared<RopeTable>(make_rope_table(ctx, {.theta = s.rope_theta,
                                                                .rope_dim = s.qk_rope_head_dim,
                                                                .max_positions = max_positions,
                                                                .yarn = yarn}));
  run_.softmax_scale = attention_softmax_scale(s.qk_nope_head_dim + s.qk_rope_head_dim, yarn);
  const auto experts = static_cast<size_t>(s.n_routed_experts);
  for (int64_t index = 0; index < s.num_hidden_layers; ++index) {
    const LayerParameters& parameters = model.layers[static_cast<size_t>(index)];
    const Tensor& kv_b = parameters.attention.kv_b->weight;
    Layer& layer = layers_.emplace_back();
    layer.cache = ctx.empty({max_positions, s.kv_lora_rank + s.qk_rope_head_dim}, model.compute,
                            Purpose::activations);
    // A query's product with [nope, C] sums over nope: the product an input gradient uses.
    layer.keys = PackedWeight(Orientation::input_gradient);
    layer.keys.pack(ctx, rows_of_heads(ctx, kv_b, s.num_attention_heads, 0, s.qk_nope_head_dim),
                    model.compute);
    layer.values = PackedWeight(Orientation::forward);
    layer.values.pack(
        ctx, rows_of_heads(ctx, kv_b, s.num_attention_heads, s.qk_nope_head_dim, s.v_head_dim),
        model.compute);
    if (parameters.is_moe && s.topk_method == "noaux_tc")
      layer.selection_bias = tensor_of(
          ctx, selection_bias.subspan(static_cast<size_t>(parameters.moe_index) * experts, experts),
          Purpose::weights);
  }
}

void Decoder::rewind(int64_t positions) {
  STRAIT_CHECK(positions >= 0 && positions <= positions_, std::to_string(positions));
  positions_ = positions;
}

int64_t Decoder::cache_bytes() const {
  int64_t bytes = 0;
  for (const Layer& layer : layers_) bytes += layer.cache.bytes();
  return bytes;
}

Tensor Decoder::run(std::span<const int32_t> tokens, Logits logits) {
  const auto count = static_cast<int64_t>(tokens.size());
  STRAIT_CHECK(count >= 1 && count <= max_positions() - positions_,
               std::to_string(count) + " tokens after " + std::to_string(positions_) + " of " +
                   std::to_string(max_positions()) + " positions");
  const int64_t wanted = logits == Logits::all ? count : 1;
  Tensor result = ctx_.empty({wanted, model_.head->num_rows()}, DType::f32, Purpose::activations);
  for (int64_t first = 0; first < count; first += kChunkTokens) {
    const int64_t size = std::min(kChunkTokens, count - first);
    const Tensor hidden =
        run_chunk(tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(size)));
    if (logits == Logits::last && first + size < count) continue;
    const int64_t rows = logits == Logits::all ? size : 1;
    const Tensor x =
        normed(hidden.slice_rows(size - rows, rows), *model_.norm, model_.settings.rms_norm_eps);
    linear(ctx_, x, model_.head->packed,
           result.slice_rows(logits == Logits::all ? first : 0, rows));
  }
  return result;
}

Tensor Decoder::run_chunk(std::span<const int32_t> tokens) {
  const int64_t heads = model_.settings.num_attention_heads;
  Chunk chunk{.tokens = static_cast<int64_t>(tokens.size()),
              .offsets = {},
              .token_rows_NT = {},
              .head_rows_TN = {}};
  std::vector<int32_t> token_rows, head_rows(static_cast<size_t>(heads * chunk.tokens));
  for (int64_t head = 0; head <= heads; ++head) chunk.offsets.push_back(head * chunk.tokens);
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t token = 0; token < chunk.tokens; ++token) {
      head_rows[static_cast<size_t>(token * heads + head)] =
          static_cast<int32_t>(token_rows.size());
      token_rows.push_back(static_cast<int32_t>(token * heads + head));
    }
  chunk.token_rows_NT = tensor_of(ctx_, std::span<const int32_t>(token_rows), Purpose::workspace);
  chunk.head_rows_TN = tensor_of(ctx_, std::span<const int32_t>(head_rows), Purpose::workspace);

  Tensor hidden =
      ctx_.empty({chunk.tokens, model_.settings.hidden_size}, DType::f32, Purpose::activations);
  embedding(ctx_, tensor_of(ctx_, tokens, Purpose::data), model_.embedding->weight, hidden);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    attend(chunk, layer, hidden);
    feed_forward(layer, hidden);
  }
  positions_ += chunk.tokens;
  return hidden;
}

Tensor Decoder::normed(const Tensor& x, const Parameter& weight, double eps) {
  Tensor y = ctx_.empty({x.rows(), x.cols()}, model_.compute, Purpose::activations);
  rms_norm(ctx_, x, weight.weight, eps, y);
  return y;
}

// [T, N * (nope + rope)], rotated.
Tensor Decoder::queries(const Chunk& chunk, const AttentionParameters& p, const Tensor& x_TH) {
  const ModelSettings& s = model_.settings;
  const int64_t qk = s.qk_nope_head_dim + s.qk_rope_head_dim;
  Tensor q =
      ctx_.empty({chunk.tokens, s.num_attention_heads * qk}, model_.compute, Purpose::activations);
  if (p.q != nullptr) {
    linear(ctx_, x_TH, p.q->packed, q);
  } else {
    const Tensor latent =
        ctx_.empty({chunk.tokens, s.q_lora_rank}, model_.compute, Purpose::activations);
    linear(ctx_, x_TH, p.q_a->packed, latent);
    linear(ctx_, normed(latent, *p.q_a_norm, kLatentNormEps), p.q_b->packed, q);
  }
  const RopeLayout of_heads{.num_heads = s.num_attention_heads,
                            .head_stride = qk,
                            .offset = s.qk_nope_head_dim,
                            .sequence_length = chunk.tokens,
                            .start_position = positions_};
  rope(ctx_, q, of_heads, *run_.rope, RopeDirection::forward);
  return q;
}

void Decoder::attend(const Chunk& chunk, size_t index, Tensor& hidden_TH) {
  const ModelSettings& s = model_.settings;
  const AttentionParameters& p = model_.layers[index].attention;
  const Layer& layer = layers_[index];
  const int64_t tokens = chunk.tokens, heads = s.num_attention_heads, latent = s.kv_lora_rank;
  const int64_t qk = s.qk_nope_head_dim + s.qk_rope_head_dim;
  const auto empty = [&](Shape shape, DType dtype) {
    return ctx_.empty(shape, dtype, Purpose::activations);
  };
  const Tensor x = normed(hidden_TH, *p.input_norm, s.rms_norm_eps);
  const Tensor q = queries(chunk, p, x);

  const Tensor kv_a = empty({tokens, latent + s.qk_rope_head_dim}, model_.compute);
  linear(ctx_, x, p.kv_a->packed, kv_a);
  const Tensor rows = layer.cache.slice_rows(positions_, tokens);
  Tensor cached_latent = rows.slice_cols(0, latent),
         cached_rope = rows.slice_cols(latent, s.qk_rope_head_dim);
  rms_norm(ctx_, kv_a.slice_cols(0, latent), p.kv_a_norm->weight, kLatentNormEps, cached_latent);
  cast(ctx_, kv_a.slice_cols(latent, s.qk_rope_head_dim), cached_rope);
  rope(ctx_, cached_rope, {.sequence_length = tokens, .start_position = positions_}, *run_.rope,
       RopeDirection::forward);

  Tensor q_nope = empty({heads * tokens, s.qk_nope_head_dim}, model_.compute);
  gather_rows(ctx_, q.view({tokens * heads, qk}).slice_cols(0, s.qk_nope_head_dim),
              chunk.token_rows_NT, q_nope);
  const Tensor q_latent = empty({heads * tokens, latent}, DType::f32);
  grouped_linear_input_gradient(ctx_, q_nope, chunk.offsets, layer.keys, q_latent);
  Tensor attended = empty({heads * tokens, latent}, DType::f32);
  latent_attention(ctx_,
                   {.num_heads = heads,
                    .latent_dim = latent,
                    .rope_dim = s.qk_rope_head_dim,
                    .head_stride = qk,
                    .rope_offset = s.qk_nope_head_dim,
                    .first_position = positions_,
                    .softmax_scale = static_cast<float>(run_.softmax_scale)},
                   q_latent, q, layer.cache, attended);
  const Tensor of_heads = empty({heads * tokens, s.v_head_dim}, model_.compute);
  grouped_linear(ctx_, attended, chunk.offsets, layer.values, of_heads);
  Tensor o = empty({tokens * heads, s.v_head_dim}, model_.compute);
  gather_rows(ctx_, of_heads, chunk.head_rows_TN, o);
  linear(ctx_, o.view({tokens, heads * s.v_head_dim}), p.o->packed, hidden_TH, Accumulate::yes);
}

void Decoder::feed_forward(size_t index, Tensor& hidden_TH) {
  const ModelSettings& s = model_.settings;
  const LayerParameters& p = model_.layers[index];
  const auto x = std::make_shared<Value>(normed(hidden_TH, *p.attention.mlp_norm, s.rms_norm_eps));
  Tensor sums;
  if (p.is_moe) {
    const int64_t tokens = hidden_TH.rows();
    Tensor wide = ctx_.empty({tokens, s.hidden_size}, DType::f32, Purpose::workspace);
    cast(ctx_, x->get(), wide);
    const Tensor logits =
        ctx_.empty({tokens, s.n_routed_experts}, DType::f32, Purpose::activations);
    linear(ctx_, wide, p.router->packed, logits);
    Tensor ids = ctx_.empty({tokens, s.num_experts_per_tok}, DType::i32, Purpose::activations);
    Tensor weights = ctx_.empty({tokens, s.num_experts_per_tok}, DType::f32, Purpose::activations);
    route(ctx_, logits, layers_[index].selection_bias, route_settings(s), ids, weights);
    const ExpertBatch batch = sorted_pairs(ctx_, x, ids, weights, s.n_routed_experts);
    sums = experts_forward(run_, p, batch, DType::f32).sums.get();
  }
  if (p.mlp.gate_up != nullptr) add(ctx_, mlp_forward(run_, p.mlp, x).y.get(), hidden_TH);
  if (sums.defined()) add(ctx_, sums, hidden_TH);
}

}  // namespace strait
