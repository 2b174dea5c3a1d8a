// parallel/mesh/mesh.h: where each rank sits.
//
// world = pipeline x data, data = replicas x expert, and rank = (pipeline, replica, expert) with
// expert fastest: an expert group is a run of consecutive ranks, so it is whole nodes or part of
// one. A Mesh is a plain value computed from the sizes and the ranks' host names; every rank
// computes the same one.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/mesh/groups.h"

namespace strait {

struct MeshPosition {
  int pipeline = 0;  // stage
  int replica = 0;   // which copy of the experts
  int expert = 0;    // which part of that copy
  friend bool operator==(const MeshPosition&, const MeshPosition&) = default;
};

// Host names to node numbers, counted in the order of first appearance. Empty `hosts`: all on one
// node.
std::vector<int> nodes_of(std::span<const std::string> hosts, int num_ranks);

class Mesh {
 public:
  // `pipeline` stages of world_size / pipeline ranks each; `expert` ranks share one copy of the
  // experts. `hosts`: one name per rank, or empty for "all on one node". Throws RecipeError when
  // the sizes do not divide, or, with several hosts, when an expert group is neither inside one
  // node nor made of whole nodes (equally many consecutive ranks on each).
  Mesh(int world_size, int pipeline, int expert, std::span<const std::string> hosts = {});

  int size() const { return static_cast<int>(node_of_rank_.size()); }
  int pipeline_size() const { return pipeline_; }
  int expert_size() const { return expert_; }
  int data_size() const { return size() / pipeline_; }
  int replicas() const { return data_size() / expert_; }
  int num_nodes() const { return num_nodes_; }
  int node_of(Rank rank) const { return node_of_rank_[static_cast<size_t>(rank.value)]; }
  const std::vector<int>& node_of_rank() const { return node_of_rank_; }
  // Ranks of one expert group on one node; the same everywhere. The far link is used if this is <
  // expert_size().
  int expert_ranks_per_node() const { return expert_ranks_per_node_; }

  MeshPosition position_of(Rank rank) const;
  Rank rank_at(const MeshPosition& position) const;

  // The groups `rank` belongs to. REQUIRES: 0 <= rank < size().
  WorldGroup world(Rank rank) const;
  PipelineGroup pipeline(Rank rank) const;
  DataGroup data(Rank rank) const;
  ExpertGroup expert(Rank rank) const;
  ReplicasGroup replicas(Rank rank) const;
  NodeGroup node(Rank rank) const;
  RailGroup rail(Rank rank) const;

 private:
  void check_expert_groups(std::span<const std::string> hosts);

  int pipeline_ = 1, expert_ = 1;
  int num_nodes_ = 1;
  int expert_ranks_per_node_ = 1;
  std::vector<int> node_of_rank_;
};

}  // namespace strait
