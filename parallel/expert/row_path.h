// parallel/expert/row_path.h: rows of tokens to the ranks of their experts and back, over one hop
// or two.
//
// One hop: straight to each rank. Two hops: far, to the rank in this rank's place on each node that
// holds one of the token's experts, the relay; near, from the relay to the ranks of its node. On
// the way back a relay adds what its node's ranks send, so that one row crosses back. Rows travel
// in chunks: the near hop of one runs under the far hop of the next. Sums follow the tree of
// core/ops/permute.h; with an FP32 wire both ways give the same bits, a BF16 wire rounds each
// partial sum once, in that fixed order.
//
// Operations are made and run on the communication thread; both hops use channels of one lane.
#pragma once

#include <memory>

#include "parallel/expert/hop.h"

namespace strait {

class RowPath {
 public:
  // `plan`: from this rank's tokens to the members of `first`, in `chunks` stretches. `second`: the
  // ranks of this node, or null for one hop; then there is one chunk.
  RowPath(Context& ctx, RowPlan plan, const Channel& first, const Channel* second, int chunks);

  const RowPlan& plan() const { return first_.plan(); }
  Hop& first() { return first_; }

  // Route and rows. `words` as first().pack_route() makes them, rows planned; allocates `arrived`,
  // of the rows that came to this rank's experts. REQUIRES: all outlive it.
  OperationPtr dispatch(const Tensor& words, const Tensor& rows, Tensor& arrived);
  // Rows that go where those of dispatch went. Buffers are whole, of one type.
  OperationPtr send(const Tensor& rows, const Tensor& arrived);
  // Sums of what comes back from each part of the plan. `rows` may be FP8 wire rows; then two-tier
  // sums, which stay as `arrived` is inside the node, become that on the way to other nodes.
  OperationPtr return_sums(const Tensor& arrived, const Tensor& rows);
  // A number of 4 bytes for each pair, back to where it came from.
  OperationPtr return_pairs(const Tensor& arrived, const Tensor& planned);

  // Pairs that came to this rank's experts, and the order of its rows by source rank and token.
  const RowPairs& arrived_pairs() const { return last().arriving(); }
  const std::vector<float>& arrived_weights() const { return last().arriving_weights(); }
  std::vector<RowRange> source_order() const;

 private:
  struct Relay {
    Tensor whole;   // rows from and to other nodes
    Tensor parted;  // rows to and from the ranks of this node
    Tensor sums;    // for other nodes, where `whole` is FP8 and `parted` is not
  };
  using RelayPtr = std::shared_ptr<Relay>;
  const Hop& last() const { return second_channel_ ? *second_ : first_; }
  Tensor like(const Tensor& rows, int64_t count, Purpose purpose) const;
  RelayPtr relay_for(const Tensor& rows, const Tensor& in_node) const;
  void plan_second();
  OperationPtr through_relay(const Tensor& rows, Tensor& arrived, const RelayPtr& relay);
  OperationPtr plan_second_hop(Tensor& arrived, const RelayPtr& relay);
  OperationPtr copy_chunk(const RelayPtr& relay, int chunk) const;
  OperationPtr add_chunk(const RelayPtr& relay, int chunk) const;

  Context& ctx_;
  const Channel* second_channel_;
  ExpertRange node_experts_;  // of the wave
  Hop first_;
  std::unique_ptr<Hop> second_;  // once the route of the first has arrived
};

}  // namespace strait
