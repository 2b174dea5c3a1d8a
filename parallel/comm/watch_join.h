// parallel/comm/watch_join.h: how the ranks find rank 0 and prove that they belong to the same run.
#pragma once

#include <chrono>
#include <vector>

#include "parallel/comm/comm.h"
#include "parallel/comm/watch_link.h"

namespace strait {

struct WatchPeer {
  Rank rank;
  WatchLink link;
};

// Collective over the Comm, uses its host lane. On rank 0: one peer per other rank, in rank order;
// elsewhere: rank 0. Rank 0 listens on a port of the system's choice (the loopback interface alone
// if all ranks share its host) until all have shown a random token that only the members of this
// Comm know; it answers with another one. Errors: CommError if that takes longer than `limit`.
std::vector<WatchPeer> join_watch(Comm& comm, std::chrono::milliseconds limit);

}  // namespace strait
