// parallel/expert/expert_links.h: the channels over which one rank's expert group exchanges rows.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "parallel/comm/comm.h"
#include "parallel/mesh/mesh.h"

namespace strait {

// All channels are of one lane, `far` where the group spans nodes, else `near`: an exchange is one
// task of that lane, with its hop inside the node, if it has one, under its hop between nodes.
struct ExpertLinks {
  int num_ranks = 1, rank_index = 0;  // of the expert group
  int ranks_per_node = 1;             // of the expert group
  bool two_tier = false;              // a row goes to each node once and on from there
  int chunks = 1;                     // of a two-tier exchange
  LinkLane lane = LinkLane::near;
  std::optional<Channel> ranks, rail, node;  // none without a Comm
  // What all exchanges of this rank would have sent to other nodes if each token's row had crossed
  // once to each remote node that holds one of its experts, and nothing else. Shared by copies.
  std::shared_ptr<std::atomic<int64_t>> floor_bytes = std::make_shared<std::atomic<int64_t>>(0);

  int num_nodes() const { return num_ranks / ranks_per_node; }
  int node_index() const { return rank_index / ranks_per_node; }
};

// Whether parallel.exchange, "auto", "flat" or "two_tier", means two hops. On one node there is
// only the hop inside it; "auto" leaves the second one out where each node has one rank, too.
bool is_two_tier(const std::string& exchange, int64_t expert_ranks, int64_t ranks_per_node);

ExpertLinks expert_links(const Mesh& mesh, Rank rank, Comm* comm, bool two_tier, int chunks);

}  // namespace strait
