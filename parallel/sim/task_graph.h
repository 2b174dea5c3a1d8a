// parallel/sim/task_graph.h: what waits for what in a set of programs, as flat arrays.
//
// Tasks are numbered position by position. A task waits for the one before it in its lane and for
// those it is `after`. A group is the set of positions that run a task together; group p <
// positions() is position p alone. Immutable once built; refers to the programs, which must outlive
// it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "parallel/program/task.h"

namespace strait {

class TaskGraph {
 public:
  // Errors: InternalError for an edge or a member that is not there.
  explicit TaskGraph(std::span<const Program> programs);

  int num_positions() const { return static_cast<int>(programs_.size()); }
  int num_tasks(int position) const {
    return static_cast<int>(programs_[static_cast<size_t>(position)].tasks.size());
  }
  const Task& task(int position, int index) const {
    return programs_[static_cast<size_t>(position)].tasks[static_cast<size_t>(index)];
  }
  size_t number(int position, int index) const {
    return first_number_[static_cast<size_t>(position)] + static_cast<size_t>(index);
  }
  size_t num_tasks() const { return group_of_.size(); }

  // By number: how many tasks it waits for, and the indices of those of its position that wait for
  // it.
  const std::vector<int>& waits() const { return waits_; }
  std::span<const int> followers(size_t number) const {
    return std::span(followers_)
        .subspan(first_follower_[number], first_follower_[number + 1] - first_follower_[number]);
  }
  int group_of(size_t number) const { return group_of_[number]; }
  const std::vector<int>& members(int group) const {
    return groups_[static_cast<size_t>(group)];
  }  // ascending

  // Whether two tasks of different positions are members of one task: the two ends of a message, or
  // the same collective.
  bool are_one(int position_a, int index_a, int position_b, int index_b) const;

 private:
  template <typename Use>
  void for_each_edge(const Use& use) const;
  void find_edges();
  void find_groups();

  std::span<const Program> programs_;
  std::vector<size_t> first_number_;    // [position]
  std::vector<int> waits_;              // [number]
  std::vector<size_t> first_follower_;  // [number], and the end
  std::vector<int> followers_;
  std::vector<int> group_of_;  // [number]
  std::vector<std::vector<int>> groups_;
};

}  // namespace strait
