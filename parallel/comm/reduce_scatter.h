// parallel/comm/reduce_scatter.h: each rank gets the sum over all ranks of its own part.   R =
// ranks in the group.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/comm/comm.h"

namespace strait {

// `recv` gets the sum over ranks of the block send[counts_R[0] + ... + counts_R[self-1] ...]. The
// order is that of tree_sum.h: same bits on every backend, run to run, and with or without nodes.
// `recv` may be exactly this rank's own block of `send`, and nothing else of it. counts_R is the
// same on all ranks and is copied. Cost per rank, N = send.size(), L = ranks_per_node() or R:
// 4N(L-1)/L bytes inside the node and 4N(1/L - 1/R) between nodes; 256 KiB messages, a few in
// flight; about 3R * 256 KiB of staging.
struct ReduceScatter {
  std::span<const float> send;  // REQUIRES: size == sum(counts_R)
  std::span<float> recv;        // REQUIRES: size == counts_R[self]
  std::span<const int64_t> counts_R;
};
OperationPtr reduce_scatter_sum(const Channel& channel, const ReduceScatter& blocks);

// The same for other element types and combinations; Sum and Max of float, double and int64_t
// exist.
template <class T, class Op>
OperationPtr reduce_scatter_blocks(const Channel& channel, std::span<const T> send,
                                   std::span<T> recv, std::vector<int64_t> counts_R, Op op);

}  // namespace strait
