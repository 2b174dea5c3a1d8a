#include "parallel/sim/task_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "core/errors.h"

namespace strait {

TaskGraph::TaskGraph(std::span<const Program> programs) : programs_(programs) {
  size_t count = 0;
  for (const Program& program : programs) {
    first_number_.push_back(count);
    count += program.tasks.size();
  }
  waits_.assign(count, 0);
  group_of_.reserve(count);
  find_edges();
  find_groups();
}

// use(position, from, to): `to` waits for `from`.
template <typename Use>
void TaskGraph::for_each_edge(const Use& use) const {
  for (int p = 0; p < num_positions(); ++p) {
    std::array<int, kNumLanes> last_of_lane;
    last_of_lane.fill(-1);
    for (int i = 0; i < num_tasks(p); ++i) {
      int& before = last_of_lane[static_cast<size_t>(task(p, i).lane)];
      if (before >= 0) use(p, before, i);
      before = i;
      for (const int earlier : task(p, i).after) use(p, earlier, i);
    }
  }
}

void TaskGraph::find_edges() {
  first_follower_.assign(waits_.size() + 1, 0);
  for_each_edge([&](int p, int from, int to) {
    STRAIT_CHECK(from >= 0 && from < num_tasks(p),
                 fmt::format("position {}: {} is after task {} of {}", p, to_string(task(p, to)),
                             from, num_tasks(p)));
    ++first_follower_[number(p, from) + 1];
    ++waits_[number(p, to)];
  });
  for (size_t n = 0; n < waits_.size(); ++n) first_follower_[n + 1] += first_follower_[n];
  followers_.resize(first_follower_.back());
  std::vector<size_t> next(first_follower_.begin(), first_follower_.end() - 1);
  for_each_edge([&](int p, int from, int to) { followers_[next[number(p, from)]++] = to; });
}

void TaskGraph::find_groups() {
  std::map<std::vector<int>, int> known;
  for (int p = 0; p < num_positions(); ++p) groups_.push_back({p});
  for (int p = 0; p < num_positions(); ++p) {
    for (const Task& task : programs_[static_cast<size_t>(p)].tasks) {
      if (task.positions.empty()) {
        group_of_.push_back(p);
        continue;
      }
      std::vector<int> members = task.positions;
      members.push_back(p);
      std::sort(members.begin(), members.end());
      const bool are_there = members.front() >= 0 && members.back() < num_positions();
      const bool are_distinct = std::adjacent_find(members.begin(), members.end()) == members.end();
      STRAIT_CHECK(are_there && are_distinct,
                   fmt::format("position {}: {} names a position twice or one that is not there", p,
                               to_string(task)));
      const auto [entry, is_new] = known.try_emplace(members, static_cast<int>(groups_.size()));
      if (is_new) groups_.push_back(std::move(members));
      group_of_.push_back(entry->second);
    }
  }
}

bool TaskGraph::are_one(int position_a, int index_a, int position_b, int index_b) const {
  if (group_of(number(position_a, index_a)) != group_of(number(position_b, index_b))) return false;
  const Task &a = task(position_a, index_a), &b = task(position_b, index_b);
  const bool is_message = a.kind == Kind::send || a.kind == Kind::receive || a.kind == Kind::swap;
  if (is_message) return a.send == b.receive && a.receive == b.send;
  return a.kind == b.kind && a.pass == b.pass;
}

}  // namespace strait
