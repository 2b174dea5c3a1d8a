// parallel/mesh/groups.h: ranks and the groups they communicate in, as distinct types.
//
// A Group is a plain value: who is in it, in which order, and where this rank stands. Members are
// addressed by their position, 0 <= position < size(). The groups of one kind do not overlap, so
// (lane, kind) keeps the messages of different groups apart. No group refers to anything global.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace strait {

// A rank of the world.
struct Rank {
  int value = 0;
  friend auto operator<=>(const Rank&, const Rank&) = default;
};

enum class GroupKind : uint8_t { world, pipeline, data, expert, replicas, node, rail, custom };
const char* name_of(GroupKind kind);  // "world", "pipeline", ...

class Group {
 public:
  // REQUIRES: `ranks` are distinct and hold `self`. `number` tells custom groups apart that share
  // two ranks or more; it is the same on all members.
  Group(GroupKind kind, std::vector<Rank> ranks, Rank self, int number = 0);

  int size() const { return static_cast<int>(ranks_.size()); }
  int self() const { return self_; }  // this rank's position
  Rank operator[](int position) const { return ranks_[static_cast<size_t>(position)]; }
  const std::vector<Rank>& ranks() const { return ranks_; }
  GroupKind kind() const { return kind_; }
  int tag() const { return static_cast<int>(kind_) + number_; }  // the same on all members
  int position_of(Rank rank) const;                              // -1: not a member
  std::string name() const;                                      // "expert group {4, 5, 6, 7}"

 private:
  GroupKind kind_;
  int number_;
  int self_;
  std::vector<Rank> ranks_;
};

// One type per kind, so that no function can be handed the wrong one.
template <GroupKind kind_of_group>
class GroupOf : public Group {
 public:
  GroupOf(std::vector<Rank> ranks, Rank self) : Group(kind_of_group, std::move(ranks), self) {}
};

using WorldGroup = GroupOf<GroupKind::world>;        // everyone
using PipelineGroup = GroupOf<GroupKind::pipeline>;  // one rank per stage, in stage order
using DataGroup =
    GroupOf<GroupKind::data>;  // all ranks of one stage: they hold the same dense weights
using ExpertGroup =
    GroupOf<GroupKind::expert>;  // the ranks over which one copy of the experts is spread
using ReplicasGroup =
    GroupOf<GroupKind::replicas>;            // the ranks of a stage that hold the same experts
using NodeGroup = GroupOf<GroupKind::node>;  // the members of an expert group on one node
using RailGroup =
    GroupOf<GroupKind::rail>;  // per node of an expert group, the member in the same place

}  // namespace strait
