#include "launch/commands/verify_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "launch/commands/verify_tensors.h"
#include "parallel/comm/exchange.h"
#include "parallel/expert/pair_map.h"

namespace strait {
namespace {

// `mine` of every rank, on position 0. All have the same length.
template <class T>
std::vector<std::vector<T>> gather_values(const Channel& channel, const std::vector<T>& mine) {
  std::vector<std::vector<T>> all;
  Exchange messages;
  if (channel.self() != 0) {
    messages.sends.push_back({.to = 0, .data = std::as_bytes(std::span(mine))});
  } else {
    all.assign(static_cast<size_t>(channel.size()), std::vector<T>(mine.size()));
    all[0] = mine;
    for (int rank = 1; rank < channel.size(); ++rank)
      messages.receives.push_back(
          {.from = rank,
           .data = std::as_writable_bytes(std::span(all[static_cast<size_t>(rank)]))});
  }
  if (channel.size() > 1) channel.enqueue(exchange(channel, std::move(messages))).wait();
  return all;
}

// max |a - b| / max |a|; NaN if there is one.
double largest_difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (std::isnan(d)) return d;
    difference = std::max(difference, d);
    largest = std::max(largest, std::fabs(static_cast<double>(a[i])));
  }
  return difference == 0 ? 0 : difference / largest;
}

}  // namespace

RouteRecord::RouteRecord(const Engine& engine, const EngineSettings& settings, Rank rank)
    : tokens_(settings.micro_batch * settings.sequence_length),
      top_k_(settings.model.num_experts_per_tok),
      experts_(settings.model.n_routed_experts),
      num_microbatches_(settings.num_microbatches),
      rank_(rank.value) {
  for (const LayerParameters& layer : engine.model().layers) {
    moe_index_.push_back(layer.moe_index);
    num_moe_layers_ += layer.is_moe;
  }
  const auto tokens = static_cast<size_t>(num_microbatches_ * num_moe_layers_ * tokens_);
  ids_.resize(tokens * static_cast<size_t>(top_k_));
  logits_.resize(tokens * static_cast<size_t>(experts_));
  sums_.resize(tokens);
  ranks_.resize(static_cast<size_t>(num_microbatches_ * num_moe_layers_), -1);
}

int64_t RouteRecord::block(int microbatch, int layer) const {
  return int64_t{microbatch} * num_moe_layers_ + moe_index_[static_cast<size_t>(layer)];
}

void RouteRecord::watch(Engine& engine) {
  engine.watch_routes([this](const Engine::RouteView& route) {
    const int64_t at = block(route.microbatch, route.layer);
    ranks_[static_cast<size_t>(at)] = rank_;
    std::ranges::copy(route.ids_TK.span<int32_t>(), ids_.begin() + at * tokens_ * top_k_);
    std::ranges::copy(route.logits_TE.span<float>(), logits_.begin() + at * tokens_ * experts_);
  });
  engine.watch_expert_sums([this](int microbatch, int layer, const Tensor& sums) {
    const int64_t at = block(microbatch, layer);
    for (int64_t token = 0; token < tokens_; ++token)
      sums_[static_cast<size_t>(at * tokens_ + token)] = hash_of(sums.slice_rows(token, 1));
  });
}

std::vector<RouteRecord> RouteRecord::gather(const Channel& channel) const {
  auto ids = gather_values(channel, ids_);
  auto logits = gather_values(channel, logits_);
  auto sums = gather_values(channel, sums_);
  auto ranks = gather_values(channel, ranks_);
  std::vector<RouteRecord> records;
  for (size_t rank = 0; rank < ids.size(); ++rank) {
    RouteRecord& record = records.emplace_back(*this);
    record.ids_ = std::move(ids[rank]);
    record.logits_ = std::move(logits[rank]);
    record.sums_ = std::move(sums[rank]);
    record.ranks_ = std::move(ranks[rank]);
  }
  return records;
}

void RouteRecord::add(const RouteRecord& other) {
  const auto take = [](auto& mine, const auto& theirs, int64_t block, int64_t size) {
    std::copy_n(theirs.begin() + block * size, size, mine.begin() + block * size);
  };
  for (int64_t block = 0; block < static_cast<int64_t>(ranks_.size()); ++block) {
    if (other.rank_of(block) < 0) continue;
    ranks_[static_cast<size_t>(block)] = other.rank_of(block);
    take(ids_, other.ids_, block, tokens_ * top_k_);
    take(logits_, other.logits_, block, tokens_ * experts_);
    take(sums_, other.sums_, block, tokens_);
  }
}

RouteReplay::RouteReplay(Engine& reference, const EngineSettings& settings, RouteGates gates)
    : reference_(reference), settings_(route_settings(settings.model)), gates_(gates) {
  reference.watch_routes([this](const Engine::RouteView& route) { compare_route(route); });
  reference.watch_expert_sums([this](int microbatch, int layer, const Tensor& sums) {
    compare_sums(microbatch, layer, sums);
  });
}

void RouteReplay::expect(std::vector<RouteRecord> records, int64_t num_microbatches, int64_t step) {
  records_ = std::move(records);
  num_microbatches_ = num_microbatches;
  step_ = step;
}

std::string RouteReplay::place(int microbatch, int layer, int64_t token) const {
  const RouteRecord& record = records_[static_cast<size_t>(microbatch / num_microbatches_)];
  const auto of_record = static_cast<int>(microbatch % num_microbatches_);
  return fmt::format("layer {}, rank {}, step {}, micro-batch {}, token {}", layer,
                     record.rank_of(record.block(of_record, layer)), step_, of_record, token);
}

// The choices that a record's logits give here, under the reference's bias.
Tensor RouteReplay::choices_of(std::span<const float> logits, const Engine::RouteView& route) {
  Context& ctx = reference_.ctx();
  const auto row =
      static_cast<size_t>(reference_.model().layers[static_cast<size_t>(route.layer)].moe_index);
  const auto experts = static_cast<size_t>(route.logits_TE.cols());
  const std::span<const float> biases = reference_.selection_bias();
  Tensor bias;
  if (settings_.method == RouteSettings::Method::noaux_tc)
    bias = tensor_of(ctx, biases.subspan(row * experts, experts), Purpose::workspace);
  const Tensor logits_TE = tensor_of(ctx, logits, Purpose::workspace).view(route.logits_TE.shape());
  Tensor ids = ctx.empty(route.ids_TK.shape(), DType::i32, Purpose::workspace);
  Tensor weights = ctx.empty(route.weights_TK.shape(), DType::f32, Purpose::workspace);
  strait::route(ctx, logits_TE, bias, settings_, ids, weights);
  return ids;
}

void RouteReplay::compare_route(const Engine::RouteView& route) {
  const RouteRecord& record = records_[static_cast<size_t>(route.microbatch / num_microbatches_)];
  const int64_t block =
      record.block(static_cast<int>(route.microbatch % num_microbatches_), route.layer);
  const auto top_k = static_cast<size_t>(route.ids_TK.cols()),
             experts = static_cast<size_t>(route.logits_TE.cols());
  const Tensor explained = choices_of(record.logits(block), route);
  gates_.routes->seen = gates_.router_logits->seen = true;
  for (size_t token = 0; token < static_cast<size_t>(route.ids_TK.rows()); ++token) {
    const auto at = [&] {
      return place(route.microbatch, route.layer, static_cast<int64_t>(token));
    };
    const auto of_token = [&](auto values) { return values.subspan(token * top_k, top_k); };
    const auto logits_of = [&](std::span<const float> values) {
      return values.subspan(token * experts, experts);
    };
    const double noise = largest_difference(logits_of(route.logits_TE.span<float>()),
                                            logits_of(record.logits(block)));
    if (gates_.router_logits->is_worse(noise)) gates_.router_logits->see(noise, at());

    const auto chosen = of_token(record.ids(block));
    if (!std::ranges::equal(chosen, of_token(explained.span<int32_t>())))
      gates_.routes->count(at());
    const auto natural = of_token(route.ids_TK.span<int32_t>());
    *gates_.choices += static_cast<int64_t>(top_k);
    *gates_.flips += std::ranges::count_if(
        chosen, [&](int32_t id) { return std::ranges::find(natural, id) == natural.end(); });
    if (!std::ranges::equal(chosen, natural))
      take_choice(route, static_cast<int64_t>(token), chosen);
  }
}

// Weights of given experts, by the router itself: a bias that no score outweighs makes it choose
// them.
void RouteReplay::take_choice(const Engine::RouteView& route, int64_t token,
                              std::span<const int32_t> ids) {
  Context& ctx = reference_.ctx();
  Tensor bias = ctx.zeros({route.logits_TE.cols()}, DType::f32, Purpose::workspace);
  for (size_t k = 0; k < ids.size(); ++k)
    bias.data<float>()[ids[k]] = 2 * static_cast<float>(ids.size() - k);
  RouteSettings given = settings_;
  given.method = RouteSettings::Method::noaux_tc;
  given.n_group = given.topk_group = 1;
  Tensor token_ids = route.ids_TK.slice_rows(token, 1),
         token_weights = route.weights_TK.slice_rows(token, 1);
  strait::route(ctx, route.logits_TE.slice_rows(token, 1), bias, given, token_ids, token_weights);
}

void RouteReplay::compare_sums(int microbatch, int layer, const Tensor& sums) {
  const RouteRecord& record = records_[static_cast<size_t>(microbatch / num_microbatches_)];
  const auto wanted =
      record.sums(record.block(static_cast<int>(microbatch % num_microbatches_), layer));
  gates_.expert_sums->seen = true;
  for (int64_t token = 0; token < sums.rows(); ++token)
    if (hash_of(sums.slice_rows(token, 1)) != wanted[static_cast<size_t>(token)])
      gates_.expert_sums->count(place(microbatch, layer, token));
}

}  // namespace strait
