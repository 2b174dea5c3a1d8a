// parallel/expert/expert_exchange.h: token rows to the ranks of their experts and expert sums back,
// for one MoE layer of one micro-batch.   T tokens, K experts each, H hidden, R ranks of the expert
// group.
//
// A token's row is sent once to each rank that holds at least one of its experts, together with the
// ids and weights of those experts; each rank sums over its own experts before it sends one row
// back; the token's rank adds the ranks' sums. All sums follow one fixed binary tree over expert
// ids, so with an FP32 wire the result has the same bits for every number of ranks. This is the
// flat exchange: one all-to-all over the whole group.
//
// The calls alternate between the compute thread (make, arrived, pack_..., add_..., take_...) and
// operations for a link lane (dispatch, combine and their inverses), in the order below; backward
// uses the route that forward saved. With one rank nothing is sent and the operations are null.
// Wire per dispatch and rank: rows of H elements, 4 bytes a row and 8 bytes a (row, expert) pair;
// combine: rows only. Source: DeepSeek-V3 report, section 3.2.2.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/nn/layer.h"
#include "parallel/comm/comm.h"

namespace strait {

struct ExchangeSettings {
  Context* ctx = nullptr;
  int num_ranks = 1, rank_index = 0;  // of the expert group
  const Channel* channel = nullptr;   // of the expert group; not used with one rank or on `meta`
  int64_t num_experts = 0;            // over all ranks; rank i holds [i, i + 1) * num_experts / R
  DType compute = DType::f32;         // of dispatched rows
  DType combine_wire = DType::f32;    // of sums on their way back, and of gradients
  double expected_ranks =
      1;  // that a token goes to; on `meta`, where nothing is routed (expected_route.h)
};

class ExpertExchange {
 public:
  // Compute thread. Plans the route and packs the rows of x. ids, weights [T, K].
  ExpertExchange(const ExchangeSettings& settings, std::shared_ptr<Value> x, const Tensor& ids,
                 const Tensor& weights);
  ~ExpertExchange();
  ExpertExchange(const ExpertExchange&) = delete;
  ExpertExchange& operator=(const ExpertExchange&) = delete;

  OperationPtr dispatch();
  ExpertBatch arrived();                  // compute thread, after dispatch
  void pack_sums(const Tensor& sums_UH);  // compute thread, after the experts
  OperationPtr combine();
  void add_sums(Tensor& hidden_TH);  // compute thread, after combine: hidden += sums, FP32

  void pack_gradient(
      const Tensor& d_hidden_TH);  // compute thread: the gradient of what add_sums added
  OperationPtr combine_inverse();
  Tensor take_d_sums();  // compute thread, after combine_inverse
  void pack_expert_gradients(const ExpertsGradient& gradients);
  OperationPtr dispatch_inverse();
  struct Gradients {
    Tensor d_x;        // [T, H] FP32
    Tensor d_weights;  // [T, K] FP32
  };
  Gradients take_gradients();  // compute thread, after dispatch_inverse

  DType sums_dtype() const;    // what experts_forward should produce
  int64_t rows_sent() const;   // token rows that left for other ranks, by this dispatch
  int64_t pairs_here() const;  // (row, expert) pairs this rank's experts got

 private:
  struct Plan;  // the sender's view: which tokens go where
  struct Here;  // the receiver's view: which rows and pairs came from where
  struct Choice {
    int32_t expert, slot;  // slot: token * K + k
  };
  void expect_route();  // on `meta`
  std::vector<Choice> count_choices(const int32_t* ids);
  void plan_route(const int32_t* ids, const float* weights);
  void pack_rows(const Tensor& x);

  ExchangeSettings settings_;
  int num_ranks_ = 1, self_ = 0;
  std::shared_ptr<Value> x_;
  int64_t tokens_ = 0, top_k_ = 0, hidden_ = 0;
  std::unique_ptr<Plan> plan_;
  std::unique_ptr<Here> here_;
  Tensor send_, recv_;                  // rows in flight
  Tensor send_scalars_, recv_scalars_;  // ids and weights, or weight gradients, in flight
};

}  // namespace strait
