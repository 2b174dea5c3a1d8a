// parallel/comm/exchange.h: messages to and from single ranks, broadcast, barrier, and strings to
// one rank.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/comm.h"

namespace strait {

// All at once, so that two neighbours that send to each other cannot block one another. Buffers
// must outlive the event; sizes are known to both sides, empty messages are not sent.
struct Exchange {
  struct Send {
    int to;  // position in the group
    std::span<const std::byte> data;
  };
  struct Receive {
    int from;
    std::span<std::byte> data;
  };
  std::vector<Send> sends;
  std::vector<Receive> receives;
};
OperationPtr exchange(const Channel& channel, Exchange messages);

// `data` of position `root` on all ranks. Cost: a binary tree, log2(R) messages deep.
OperationPtr broadcast(const Channel& channel, int root, std::span<std::byte> data);

// Finishes on no rank before it has started on all. Cost: ceil(log2 R) messages of one byte, one
// after another.
OperationPtr barrier(const Channel& channel);

// On position `root`, `all` becomes the strings of all ranks, in rank order; elsewhere it is not
// touched and may be null. `mine` must outlive the event. Cost: two messages per rank to the root.
OperationPtr gather_strings(const Channel& channel, int root, const std::string& mine,
                            std::vector<std::string>* all);

}  // namespace strait
