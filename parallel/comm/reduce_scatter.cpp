#include "parallel/comm/reduce_scatter.h"

#include <deque>
#include <numeric>
#include <utility>

#include "core/errors.h"
#include "parallel/comm/transfers.h"
#include "parallel/comm/tree_sum.h"

namespace strait {
namespace {

constexpr int64_t kSliceBytes = 256 << 10;
constexpr size_t kSlicesInFlight = 3;

// Works on slices: slice s is elements [s*n, (s+1)*n) of every rank's block. Two hops: inside the
// node, the member with local number j adds up the blocks of all ranks numbered j on their nodes;
// then the node sums travel along the rail to their owners. One hop when the group is not made of
// nodes (nodes == 1). The messages between two ranks are posted in slice order on both sides.
template <class T, class Op>
class ReduceScatterOperation : public Operation {
 public:
  ReduceScatterOperation(const Channel& channel, std::span<const T> send, std::span<T> recv,
                         std::vector<int64_t> counts, Op op)
      : channel_(channel), send_(send), recv_(recv), counts_(std::move(counts)), op_(op) {
    const auto ranks = static_cast<size_t>(channel.size());
    STRAIT_CHECK(counts_.size() == ranks, "[reduce_scatter] one count per rank of the group");
    starts_.assign(ranks, 0);
    std::exclusive_scan(counts_.begin(), counts_.end(), starts_.begin(), int64_t{0});
    STRAIT_CHECK(
        static_cast<int64_t>(send.size()) == starts_.back() + counts_.back() &&
            static_cast<int64_t>(recv.size()) == counts_[static_cast<size_t>(channel.self())],
        "[reduce_scatter] the buffers do not have the sizes that the counts give");
    local_ = channel.ranks_per_node() > 0 ? channel.ranks_per_node() : channel.size();
    nodes_ = channel.size() / local_;
    node_ = channel.self() / local_;
    place_ = channel.self() % local_;
    const int64_t longest = *std::max_element(counts_.begin(), counts_.end());
    slice_ = std::clamp<int64_t>(longest, 1, kSliceBytes / static_cast<int64_t>(sizeof(T)));
    num_slices_ = (longest + slice_ - 1) / slice_;
  }

  bool poll() override {
    while (in_flight_.size() < kSlicesInFlight && next_ < num_slices_) start_slice(next_++);
    bool worked = false;  // one sum per call: other lanes wait meanwhile
    bool earlier_are_on_rail = true;
    for (Slice& slice : in_flight_) {
      if (slice.hop == Hop::node && slice.node.poll() && earlier_are_on_rail && !worked) {
        add_up_node(slice);
        worked = true;
      }
      if (slice.hop == Hop::rail && slice.rail.poll() && !worked) {
        add_up_rail(slice);
        worked = true;
      }
      earlier_are_on_rail = earlier_are_on_rail && slice.hop != Hop::node;
    }
    if (worked) channel_.poll_again();
    while (!in_flight_.empty() && in_flight_.front().hop == Hop::done) {
      spare_.push_back(std::move(in_flight_.front().staging));
      in_flight_.pop_front();
    }
    return in_flight_.empty() && next_ == num_slices_;
  }

 private:
  enum class Hop { node, rail, done };
  struct Slice {
    int64_t index;
    Transfers node, rail;
    std::vector<T> staging;  // [local, nodes] received blocks, then [nodes] node sums, then [nodes]
                             // from the rail
    Hop hop = Hop::node;
  };

  int rank_at(int node, int place) const { return node * local_ + place; }
  int64_t begin_of(int64_t slice) const { return slice * slice_; }
  int64_t length(int rank, int64_t slice) const {
    return std::clamp<int64_t>(counts_[static_cast<size_t>(rank)] - begin_of(slice), 0, slice_);
  }
  std::span<const T> own(int rank, int64_t slice) const {
    const int64_t count = length(rank, slice);
    if (count == 0) return {};
    return send_.subspan(static_cast<size_t>(starts_[static_cast<size_t>(rank)] + begin_of(slice)),
                         static_cast<size_t>(count));
  }
  // Staging block number `block`, cut to what `rank` owns of the slice.
  std::span<T> staged(Slice& slice, int block, int rank) const {
    return std::span<T>(slice.staging)
        .subspan(static_cast<size_t>(block * slice_),
                 static_cast<size_t>(length(rank, slice.index)));
  }
  int node_sum_block(int node) const { return local_ * nodes_ + node; }
  int rail_block(int node) const { return (local_ + 1) * nodes_ + node; }

  void start_slice(int64_t index) {
    std::vector<T> staging;
    if (!spare_.empty()) {
      staging = std::move(spare_.back());
      spare_.pop_back();
    }
    staging.resize(static_cast<size_t>((local_ + 2) * nodes_ * slice_));
    in_flight_.push_back({.index = index,
                          .node = Transfers(channel_, "reduce_scatter"),
                          .rail = Transfers(channel_, "reduce_scatter"),
                          .staging = std::move(staging)});
    Slice& slice = in_flight_.back();
    for (int step = 1; step < local_; ++step) {
      const int from = (place_ - step + local_) % local_, to = (place_ + step) % local_;
      for (int node = 0; node < nodes_; ++node) {
        slice.node.receive(rank_at(node_, from),
                           bytes_of(staged(slice, from * nodes_ + node, rank_at(node, place_))));
        slice.node.send(rank_at(node_, to), bytes_of(own(rank_at(node, to), index)));
      }
    }
  }

  // Adds what this node's ranks sent; the sums of other nodes' blocks leave on the rail.
  void add_up_node(Slice& slice) {
    std::vector<const T*> inputs(static_cast<size_t>(local_));
    for (int node = 0; node < nodes_; ++node) {
      const int owner = rank_at(node, place_);
      const size_t count = static_cast<size_t>(length(owner, slice.index));
      if (count == 0) continue;
      for (int place = 0; place < local_; ++place)
        inputs[static_cast<size_t>(place)] =
            place == place_ ? own(owner, slice.index).data()
                            : staged(slice, place * nodes_ + node, owner).data();
      const std::span<T> sum =
          nodes_ == 1 ? recv_.subspan(static_cast<size_t>(begin_of(slice.index)), count)
                      : staged(slice, node_sum_block(node), owner);
      tree_sum<T, Op>(inputs, sum, op_);
    }
    if (nodes_ == 1) {
      slice.hop = Hop::done;
      return;
    }
    for (int step = 1; step < nodes_; ++step) {
      const int from = (node_ - step + nodes_) % nodes_, to = (node_ + step) % nodes_;
      slice.rail.receive(rank_at(from, place_),
                         bytes_of(staged(slice, rail_block(from), channel_.self())));
      const std::span<const T> sum = staged(slice, node_sum_block(to), rank_at(to, place_));
      slice.rail.send(rank_at(to, place_), bytes_of(sum));
    }
    slice.hop = Hop::rail;
  }

  void add_up_rail(Slice& slice) {
    slice.hop = Hop::done;
    const size_t count = static_cast<size_t>(length(channel_.self(), slice.index));
    if (count == 0) return;
    std::vector<const T*> inputs(static_cast<size_t>(nodes_));
    for (int node = 0; node < nodes_; ++node)
      inputs[static_cast<size_t>(node)] =
          staged(slice, node == node_ ? node_sum_block(node) : rail_block(node), channel_.self())
              .data();
    tree_sum<T, Op>(inputs, recv_.subspan(static_cast<size_t>(begin_of(slice.index)), count), op_);
  }

  Channel channel_;
  std::span<const T> send_;
  std::span<T> recv_;
  std::vector<int64_t> counts_, starts_;
  Op op_;
  int local_ = 1, nodes_ = 1;                      // ranks per node, nodes of the group
  int node_ = 0, place_ = 0;                       // where this rank stands
  int64_t slice_ = 1, num_slices_ = 0, next_ = 0;  // elements of a slice
  std::deque<Slice> in_flight_;
  std::vector<std::vector<T>> spare_;
};

}  // namespace

template <class T, class Op>
OperationPtr reduce_scatter_blocks(const Channel& channel, std::span<const T> send,
                                   std::span<T> recv, std::vector<int64_t> counts_R, Op op) {
  return std::make_unique<ReduceScatterOperation<T, Op>>(channel, send, recv, std::move(counts_R),
                                                         op);
}

OperationPtr reduce_scatter_sum(const Channel& channel, const ReduceScatter& blocks) {
  return reduce_scatter_blocks(channel, blocks.send, blocks.recv,
                               {blocks.counts_R.begin(), blocks.counts_R.end()}, Sum<float>{});
}

template OperationPtr reduce_scatter_blocks(const Channel&, std::span<const float>,
                                            std::span<float>, std::vector<int64_t>, Sum<float>);
template OperationPtr reduce_scatter_blocks(const Channel&, std::span<const double>,
                                            std::span<double>, std::vector<int64_t>, Sum<double>);
template OperationPtr reduce_scatter_blocks(const Channel&, std::span<const int64_t>,
                                            std::span<int64_t>, std::vector<int64_t>, Sum<int64_t>);
template OperationPtr reduce_scatter_blocks(const Channel&, std::span<const float>,
                                            std::span<float>, std::vector<int64_t>, Max<float>);
template OperationPtr reduce_scatter_blocks(const Channel&, std::span<const double>,
                                            std::span<double>, std::vector<int64_t>, Max<double>);
template OperationPtr reduce_scatter_blocks(const Channel&, std::span<const int64_t>,
                                            std::span<int64_t>, std::vector<int64_t>, Max<int64_t>);

}  // namespace strait
