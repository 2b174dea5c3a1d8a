#include "parallel/expert/expert_links.h"

namespace strait {

bool is_two_tier(const std::string& exchange, int64_t expert_ranks, int64_t ranks_per_node) {
  if (exchange == "flat" || ranks_per_node >= expert_ranks) return false;
  return exchange == "two_tier" || ranks_per_node > 1;
}

ExpertLinks expert_links(const Mesh& mesh, Rank rank, Comm* comm, bool two_tier, int chunks) {
  ExpertLinks links;
  links.num_ranks = mesh.expert_size();
  links.rank_index = mesh.position_of(rank).expert;
  links.ranks_per_node = mesh.expert_ranks_per_node();
  links.two_tier = two_tier;
  links.chunks = two_tier ? chunks : 1;
  links.lane = links.num_nodes() > 1 ? LinkLane::far : LinkLane::near;
  if (comm == nullptr) return links;
  links.ranks = comm->channel(links.lane, mesh.expert(rank));
  links.rail = comm->channel(links.lane, mesh.rail(rank));
  links.node = comm->channel(links.lane, mesh.node(rank));
  return links;
}

}  // namespace strait
