// parallel/expert/expert_exchange.h: token rows to the ranks of their experts and expert sums back,
// for one MoE layer of one micro-batch.   T tokens, K experts each, H hidden, R ranks of the expert
// group.
//
// A token's row is sent with the ids and weights of its experts there, over one hop or two
// (row_path.h): flat, once to each rank that holds at least one of its experts; two-tier, once to
// each node that does, and inside the node to those ranks. Each rank sums over its own experts
// before it sends one row back, two-tier exchanges add inside the node before one row crosses back,
// and the token's rank adds the rest. All sums follow one fixed binary tree over expert ids, so
// with an FP32 wire the result has the same bits for every number of ranks and for both ways.
//
// The calls alternate between the compute thread (make, arrived, pack_..., add_..., take_...) and
// operations for a link lane (dispatch, combine and their inverses), in the order below; backward
// uses the route that forward saved. With one rank nothing is sent and the operations are null.
// Where rows may be forgotten (routed_pool.h), the ranks agree in combine whether any of them has
// done so; if so, combine_inverse also sends the rows again. Wire per hop of dispatch: rows of H
// elements, 4 bytes a row and 8 bytes a (row, expert) pair; combine: rows only; dispatch_inverse:
// rows and 4 bytes a pair. With fp8_sums combine's rows are codes and scales, one rounding for each
// row that leaves a rank (or, two-tier, a node). With fp8 rows on their way to the experts, in
// dispatch and in combine_inverse, are codes with a scale for 128 elements; what arrives is
// decoded. One rank rounds them alike, so that the experts see the same numbers in every layout.
// NotFiniteError: what was to become codes on this rank is not finite.
// Source: DeepSeek-V3 report, sections 3.2.2 and 3.3.3.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/nn/layer.h"
#include "parallel/expert/expert_links.h"
#include "parallel/expert/pair_map.h"
#include "parallel/expert/row_path.h"

namespace strait {

// What one exchange carries, as one rank sees it.
struct RoutedRows {
  int64_t rows = 0;  // of this rank's tokens: one for each rank, or node, that has experts of it
  int64_t rows_here = 0, pairs_here = 0;  // for this rank's experts
};

struct ExchangeSettings {
  Context* ctx = nullptr;
  ExpertLinks links;                // its channels are not used with one rank or on `meta`
  int64_t num_experts = 0;          // over all ranks; rank i holds [i, i + 1) * num_experts / R
  DType compute = DType::f32;       // of dispatched rows
  DType combine_wire = DType::f32;  // of sums on their way back, and of gradients
  bool fp8 = false;                 // rows on their way to the experts, and their gradients
  bool fp8_sums = false;     // sums on their way back; combine_wire inside a node of two tiers
  bool may_forget = false;   // whether some rank may call forget()
  RoutedRows expected = {};  // on `meta`, where nothing is routed; not used with one rank
  // Only the experts of one wave of several (expert_parts.h); `expected` counts all. 1 with one
  // rank.
  int wave = 0, num_waves = 1;
  std::string name = {};  // of the experts, for messages: model.layers.3.mlp.experts
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
  // Compute thread, before combine: what arrived() gave is not kept. arrived_again() gives the same
  // after combine_inverse.
  void forget();
  bool forgotten() const { return forgotten_; }
  ExpertBatch arrived_again();
  OperationPtr combine();
  // After combine: hidden += sums, FP32. `ctx`, here and below: of the calling thread, which may be
  // the communication thread where a pipeline stage begins or ends.
  void add_sums(Context& ctx, Tensor& hidden_TH);

  // The gradient of what add_sums added.
  void pack_gradient(Context& ctx, const Tensor& d_hidden_TH);
  OperationPtr combine_inverse();
  Tensor take_d_sums();  // compute thread, after combine_inverse
  void pack_expert_gradients(const ExpertsGradient& gradients);
  OperationPtr dispatch_inverse();
  struct Gradients {
    Tensor d_x;        // [T, H] FP32
    Tensor d_weights;  // [T, K] FP32
  };
  Gradients take_gradients();  // compute thread, after dispatch_inverse

  // For sums over several waves: the rows that have come back, and what they are of each token.
  struct Returned {
    Tensor rows;
    TreeEntries entries;
  };
  Returned take_returned(Context& ctx);              // after combine or dispatch_inverse
  void take_weight_gradients(Tensor& d_weights_TK);  // its own choices, after dispatch_inverse

  DType sums_dtype() const;  // what experts_forward should produce
  RoutedRows load() const;   // once arrived

 private:
  void expect_route();  // on `meta`
  void plan_route(const int32_t* ids, const float* weights);
  void pack_rows(const Tensor& x);
  Tensor wire_rows(int64_t rows, DType dtype, bool fp8, Purpose purpose) const;
  // The rows `token_of_row_` of x [T, H], for the way to the experts.
  Tensor packed_rows(Context& ctx, const Tensor& x, DType dtype, const QuantizeSettings& scales);
  // What came over the wire, in combine_wire.
  Tensor unpacked_rows(Context& ctx, Tensor wire, bool fp8) const;
  void expect_relay(const Tensor& like);  // on `meta`: what dispatch and the others hold shortly
  void count_floor(const Tensor& rows);
  std::shared_ptr<Value> own_rows();
  std::shared_ptr<Value> value_of_codes(const Fp8Matrix& codes) const;
  std::shared_ptr<Value> arrived_rows(Tensor& wire) const;
  ExpertBatch batch_of(std::shared_ptr<Value> rows);
  OperationPtr agree_on_sending_again();

  ExchangeSettings settings_;
  int num_ranks_ = 1;
  std::shared_ptr<Value> x_;
  int64_t tokens_ = 0, top_k_ = 0, hidden_ = 0;
  RowPlan plan_;                            // on one rank
  std::unique_ptr<RowPath> path_;           // on several; null on `meta`
  int64_t num_rows_ = 0, num_pairs_ = 0;    // planned
  int64_t rows_here_ = 0, pairs_here_ = 0;  // for this rank's experts
  // To other nodes, each token's row once to each; of all waves, counted by the first.
  int64_t remote_rows_ = 0;
  bool forgotten_ = false;
  std::vector<int64_t> sends_again_{0};  // 1: some rank has forgotten its rows
  Tensor x_again_, send_again_, recv_again_;
  std::vector<float> pair_weights_;  // planned, until the experts have them
  std::vector<int32_t> pair_slots_;  // of each planned pair: token * K + k
  Tensor token_of_row_;              // [rows] i32
  TreeEntries rows_of_token_;        // the parts' sums, for the sum over parts
  SortedPairs sorted_;
  Tensor send_, recv_;  // rows in flight
  bool recv_is_fp8_sums_ = false;
  Tensor send_scalars_, recv_scalars_;  // ids and weights, or weight gradients, in flight
};

}  // namespace strait
