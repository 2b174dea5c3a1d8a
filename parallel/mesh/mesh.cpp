#include "parallel/mesh/mesh.h"

#include <algorithm>

#include "core/errors.h"

namespace strait {
namespace {

std::string number(int value) { return std::to_string(value); }

// What is wrong with the expert group of `count` ranks from `first`, in two halves.
std::string group_text(int first, int count) {
  return "[mesh] expert group of ranks " + number(first) + " to " + number(first + count - 1) +
         " must be whole nodes or inside one node: ";
}
std::string uneven_text(const std::string& host, int ranks, const std::string& first_host,
                        int first_ranks) {
  return "host " + host + " runs " + number(ranks) + " ranks but host " + first_host + " runs " +
         number(first_ranks) + "; start equally many on each";
}
std::string part_text(const std::string& host, int ranks) {
  return "it holds only some of the " + number(ranks) + " ranks of host " + host +
         ", or not in a row (parallel.expert, and mpirun --map-by ppr:N:node, decide this)";
}

// The ranks that differ from `rank` on one axis only, in its order.
std::vector<Rank> line_through(const Mesh& mesh, Rank rank, int MeshPosition::*axis, int length) {
  MeshPosition position = mesh.position_of(rank);
  std::vector<Rank> ranks;
  for (position.*axis = 0; position.*axis < length; ++(position.*axis))
    ranks.push_back(mesh.rank_at(position));
  return ranks;
}

}  // namespace

std::vector<int> nodes_of(std::span<const std::string> hosts, int num_ranks) {
  std::vector<int> nodes(static_cast<size_t>(num_ranks), 0);
  if (hosts.empty()) return nodes;
  STRAIT_CHECK(hosts.size() == nodes.size(), number(static_cast<int>(hosts.size())) +
                                                 " host names for " + number(num_ranks) + " ranks");
  std::vector<std::string> seen;
  for (size_t rank = 0; rank < nodes.size(); ++rank) {
    const auto found = std::find(seen.begin(), seen.end(), hosts[rank]);
    nodes[rank] = static_cast<int>(found - seen.begin());
    if (found == seen.end()) seen.push_back(hosts[rank]);
  }
  return nodes;
}

Mesh::Mesh(int world_size, int pipeline, int expert, std::span<const std::string> hosts)
    : pipeline_(pipeline), expert_(expert) {
  if (world_size < 1 || pipeline < 1 || expert < 1)
    throw RecipeError("[mesh] ranks (" + number(world_size) + "), pipeline (" + number(pipeline) +
                      ") and expert (" + number(expert) + ") must all be at least 1");
  if (world_size % pipeline != 0)
    throw RecipeError("[mesh] " + number(world_size) + " ranks cannot be divided into " +
                      number(pipeline) + " pipeline stages of equal size");
  if (world_size / pipeline % expert != 0)
    throw RecipeError("[mesh] the " + number(world_size / pipeline) +
                      " ranks of a pipeline stage cannot be divided into expert groups of " +
                      number(expert));
  node_of_rank_ = nodes_of(hosts, world_size);
  num_nodes_ = *std::max_element(node_of_rank_.begin(), node_of_rank_.end()) + 1;
  check_expert_groups(hosts);
}

void Mesh::check_expert_groups(std::span<const std::string> hosts) {
  std::vector<int> ranks_of_node(static_cast<size_t>(num_nodes_), 0);
  for (const int node : node_of_rank_) ++ranks_of_node[static_cast<size_t>(node)];
  expert_ranks_per_node_ = expert_;
  for (int first = 0; first < size(); first += expert_) {
    const auto begin = node_of_rank_.begin() + first, end = begin + expert_;
    if (std::all_of(begin, end, [&](int node) { return node == *begin; })) continue;
    const int per_node = ranks_of_node[static_cast<size_t>(*begin)];
    for (int rank = first; rank < first + expert_; ++rank) {
      const int node = node_of({rank}), start = rank - (rank - first) % per_node;
      const std::string& host = hosts[static_cast<size_t>(rank)];
      if (ranks_of_node[static_cast<size_t>(node)] != per_node)
        throw RecipeError(group_text(first, expert_) +
                          uneven_text(host, ranks_of_node[static_cast<size_t>(node)],
                                      hosts[static_cast<size_t>(first)], per_node));
      if (node_of({start}) != node || expert_ % per_node != 0)
        throw RecipeError(group_text(first, expert_) + part_text(host, per_node));
    }
    expert_ranks_per_node_ = std::min(expert_ranks_per_node_, per_node);
  }
  // One shape for all: a group inside a node next to one that spans nodes would need different
  // programs.
  if (expert_ranks_per_node_ == expert_) return;
  for (int first = 0; first < size(); first += expert_) {
    if (node_of({first}) != node_of({first + expert_ - 1}) &&
        ranks_of_node[static_cast<size_t>(node_of({first}))] == expert_ranks_per_node_)
      continue;
    throw RecipeError(
        "[mesh] expert groups of " + number(expert_) +
        " ranks span nodes in one place and not in another; start equally many ranks on each host");
  }
}

MeshPosition Mesh::position_of(Rank rank) const {
  STRAIT_CHECK(rank.value >= 0 && rank.value < size(),
               "rank " + number(rank.value) + " of " + number(size()));
  return {.pipeline = rank.value / data_size(),
          .replica = rank.value % data_size() / expert_,
          .expert = rank.value % expert_};
}

Rank Mesh::rank_at(const MeshPosition& position) const {
  return {(position.pipeline * replicas() + position.replica) * expert_ + position.expert};
}

WorldGroup Mesh::world(Rank rank) const {
  std::vector<Rank> ranks;
  ranks.reserve(static_cast<size_t>(size()));
  for (int other = 0; other < size(); ++other) ranks.push_back({other});
  return {std::move(ranks), rank};
}

PipelineGroup Mesh::pipeline(Rank rank) const {
  return {line_through(*this, rank, &MeshPosition::pipeline, pipeline_), rank};
}

DataGroup Mesh::data(Rank rank) const {
  const int first = position_of(rank).pipeline * data_size();
  std::vector<Rank> ranks;
  for (int other = first; other < first + data_size(); ++other) ranks.push_back({other});
  return {std::move(ranks), rank};
}

ExpertGroup Mesh::expert(Rank rank) const {
  return {line_through(*this, rank, &MeshPosition::expert, expert_), rank};
}

ReplicasGroup Mesh::replicas(Rank rank) const {
  return {line_through(*this, rank, &MeshPosition::replica, replicas()), rank};
}

NodeGroup Mesh::node(Rank rank) const {
  std::vector<Rank> ranks;
  const ExpertGroup group = expert(rank);
  for (const Rank other : group.ranks())
    if (node_of(other) == node_of(rank)) ranks.push_back(other);
  return {std::move(ranks), rank};
}

RailGroup Mesh::rail(Rank rank) const {
  std::vector<Rank> ranks;
  const int place = position_of(rank).expert % expert_ranks_per_node_;
  const ExpertGroup group = expert(rank);
  for (const Rank other : group.ranks())
    if (position_of(other).expert % expert_ranks_per_node_ == place) ranks.push_back(other);
  return {std::move(ranks), rank};
}

}  // namespace strait
