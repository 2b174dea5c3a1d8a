// parallel/comm/all_gather.h: every rank gets the blocks of all ranks.   R = ranks in the group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "parallel/comm/comm.h"

namespace strait {

// `data` holds the R blocks in rank order; this rank's own is in place already, the others are
// received. bytes_R is the same on all ranks and is copied. Cost per rank, N = data.size(), L =
// ranks_per_node() or R: N(L-1)/L bytes inside the node, N(1/L - 1/R) between nodes, where L is the
// number of ranks on a node.
struct AllGather {
  std::span<std::byte> data;  // REQUIRES: size == sum(bytes_R)
  std::span<const int64_t> bytes_R;
};
OperationPtr all_gather(const Channel& channel, const AllGather& blocks);

}  // namespace strait
