// launch/commands/verify_routes.h: the routes and expert sums of one step, recorded on every rank,
// compared on one.
//
// A token's experts are a function of its router logits and the selection bias, and that function
// jumps: the last bit of a logit can change the choice, and with it everything after. So the
// reference replays the layout's choices, and two questions are asked instead of one: are the
// logits equal within noise, and do the layout's own logits give the layout's choices under the
// reference's bias? Both together say that no choice differs for any other reason. T tokens of a
// micro-batch, K choices, E experts, L MoE layers, M micro-batches.
#pragma once

#include <vector>

#include "launch/commands/verify_report.h"
#include "launch/engine/engine.h"

namespace strait {

// The routes of one rank's step, in the order [M, L, T]: of the layers it holds for the
// micro-batch.
class RouteRecord {
 public:
  RouteRecord(const Engine& engine, const EngineSettings& settings, Rank rank);

  void watch(Engine& engine);  // records every step of the engine from now on; must outlive it or
                               // be replaced

  int64_t block(int microbatch, int layer) const;  // of its [M, L]; layer as in Model::layers
  std::span<const int32_t> ids(int64_t block) const { return part(ids_, block, tokens_ * top_k_); }
  std::span<const float> logits(int64_t block) const {
    return part(logits_, block, tokens_ * experts_);
  }
  std::span<const uint64_t> sums(int64_t block) const {
    return part(sums_, block, tokens_);
  }  // a hash per token

  int rank_of(int64_t block) const { return ranks_[static_cast<size_t>(block)]; }  // that ran it
  void add(const RouteRecord& other);  // the blocks that `other` ran

  // The records of all ranks, on position 0 of the channel; empty elsewhere. Collective.
  std::vector<RouteRecord> gather(const Channel& channel) const;

 private:
  template <class T>
  std::span<const T> part(const std::vector<T>& values, int64_t block, int64_t size) const {
    return std::span(values).subspan(static_cast<size_t>(block * size), static_cast<size_t>(size));
  }
  int64_t tokens_, top_k_, experts_, num_microbatches_;
  std::vector<int> moe_index_;  // by layer
  int num_moe_layers_ = 0;
  std::vector<int32_t> ids_;
  std::vector<float> logits_;
  std::vector<uint64_t> sums_;
  int32_t rank_;
  std::vector<int32_t> ranks_;  // by block; -1: not run here
};

struct RouteGates {
  Gate* routes;         // tokens whose choice the layout's own logits do not explain
  Gate* router_logits;  // largest difference over the token's largest logit
  Gate* expert_sums;    // tokens whose sums have other bits
  int64_t* choices;
  int64_t* flips;
};

// Replays the layout's choices in the reference and compares as it goes.
class RouteReplay {
 public:
  // `records` in the order of the data group, so that the reference's micro-batch g is micro-batch
  // g % M of record g / M.
  RouteReplay(Engine& reference, const EngineSettings& settings, RouteGates gates);
  void expect(std::vector<RouteRecord> records, int64_t num_microbatches, int64_t step);

 private:
  void compare_route(const Engine::RouteView& route);
  void compare_sums(int microbatch, int layer, const Tensor& sums);
  Tensor choices_of(std::span<const float> logits, const Engine::RouteView& route);
  void take_choice(const Engine::RouteView& route, int64_t token, std::span<const int32_t> ids);
  std::string place(int microbatch, int layer, int64_t token) const;

  Engine& reference_;
  const RouteSettings settings_;
  RouteGates gates_;
  std::vector<RouteRecord> records_;
  int64_t num_microbatches_ = 1, step_ = 0;
};

}  // namespace strait
