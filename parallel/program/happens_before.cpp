#include "parallel/program/happens_before.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"

namespace strait {
namespace {

constexpr int kRequirementsAtOnce = 64;

// Calls edge(earlier, later) for every two tasks that a program puts in order by itself.
template <typename Edge>
void for_each_edge(const Program& program, Edge edge) {
  std::array<int, kNumLanes> last;
  last.fill(-1);
  for (int index = 0; index < static_cast<int>(program.tasks.size()); ++index) {
    const Task& task = program.tasks[static_cast<size_t>(index)];
    int& before = last[static_cast<size_t>(task.lane)];
    if (before >= 0) edge(before, index);
    before = index;
    for (const int after : task.after) edge(after, index);
  }
}

}  // namespace

LocalOrder::LocalOrder(const Program& program)
    : program_(program), place_(program.tasks.size(), 0), finished_(program.tasks.size()) {
  for (auto& lanes : finished_) lanes.fill(0);
  for_each_edge(program, [&](int earlier, int later) {
    const auto from = static_cast<size_t>(earlier), to = static_cast<size_t>(later);
    const auto lane = static_cast<size_t>(program.tasks[from].lane);
    if (program.tasks[to].lane == program.tasks[from].lane)
      place_[to] = std::max(place_[to], place_[from] + 1);
    for (size_t i = 0; i < kNumLanes; ++i)
      finished_[to][i] = std::max(finished_[to][i], finished_[from][i]);
    finished_[to][lane] = std::max(finished_[to][lane], place_[from] + 1);
  });
}

bool LocalOrder::before(int earlier, int later) const {
  const auto from = static_cast<size_t>(earlier);
  const auto lane = static_cast<size_t>(program_.tasks[from].lane);
  return finished_[static_cast<size_t>(later)][lane] > place_[from];
}

StrictRun::StrictRun(std::span<const Program> programs, const Rendezvous& rendezvous)
    : programs_(programs), rendezvous_(rendezvous) {
  link();
  run();
}

void StrictRun::link() {
  const auto num_events = static_cast<size_t>(rendezvous_.num_events);
  const auto for_each_link = [&](auto link) {
    for (int position = 0; position < static_cast<int>(programs_.size()); ++position)
      for_each_edge(programs_[static_cast<size_t>(position)], [&](int earlier, int later) {
        link(static_cast<size_t>(event(position, earlier)), event(position, later));
      });
  };
  first_successor_.assign(num_events + 1, 0);
  for_each_link([&](size_t earlier, int) { ++first_successor_[earlier + 1]; });
  for (size_t i = 0; i < num_events; ++i) first_successor_[i + 1] += first_successor_[i];
  successors_.resize(static_cast<size_t>(first_successor_[num_events]));
  std::vector<int> next(first_successor_.begin(), first_successor_.end() - 1);
  for_each_link([&](size_t earlier, int later) {
    successors_[static_cast<size_t>(next[earlier]++)] = later;
  });
}

void StrictRun::run() {
  const auto num_events = static_cast<size_t>(rendezvous_.num_events);
  std::vector<int> waits_for(num_events, 0);
  for (const int successor : successors_) ++waits_for[static_cast<size_t>(successor)];
  ran_.assign(num_events, 0);
  std::vector<uint8_t> exists(num_events, 0);
  for (const std::vector<int>& events : rendezvous_.event)
    for (const int e : events) exists[static_cast<size_t>(e)] = 1;
  for (size_t e = 0; e < num_events; ++e)
    if (exists[e] && waits_for[e] == 0) order_.push_back(static_cast<int>(e));
  for (size_t i = 0; i < order_.size(); ++i) {
    const auto e = static_cast<size_t>(order_[i]);
    ran_[e] = 1;
    for (int s = first_successor_[e]; s < first_successor_[e + 1]; ++s) {
      const int successor = successors_[static_cast<size_t>(s)];
      if (--waits_for[static_cast<size_t>(successor)] == 0) order_.push_back(successor);
    }
  }
}

std::vector<bool> StrictRun::hold(std::span<const Requirement> requirements) const {
  std::vector<bool> held;
  std::vector<uint64_t> finished(
      static_cast<size_t>(rendezvous_.num_events));  // before an event: one bit each
  std::vector<uint64_t> own(finished.size());
  for (size_t first = 0; first < requirements.size(); first += kRequirementsAtOnce) {
    const auto batch = requirements.subspan(
        first, std::min<size_t>(kRequirementsAtOnce, requirements.size() - first));
    std::fill(finished.begin(), finished.end(), 0);
    std::fill(own.begin(), own.end(), 0);
    for (size_t i = 0; i < batch.size(); ++i)
      own[static_cast<size_t>(event(batch[i].position, batch[i].earlier))] |= uint64_t{1} << i;
    for (const int ran : order_) {
      const auto e = static_cast<size_t>(ran);
      const uint64_t known = finished[e] | own[e];
      if (known == 0) continue;
      for (int s = first_successor_[e]; s < first_successor_[e + 1]; ++s)
        finished[static_cast<size_t>(successors_[static_cast<size_t>(s)])] |= known;
    }
    for (size_t i = 0; i < batch.size(); ++i)
      held.push_back(finished[static_cast<size_t>(event(batch[i].position, batch[i].later))] >> i &
                     1);
  }
  return held;
}

int StrictRun::head(const Head& of) const {
  const std::vector<Task>& tasks = programs_[static_cast<size_t>(of.position)].tasks;
  for (int index = 0; index < static_cast<int>(tasks.size()); ++index)
    if (static_cast<int>(tasks[static_cast<size_t>(index)].lane) == of.lane &&
        !ran_[static_cast<size_t>(event(of.position, index))])
      return index;
  return -1;
}

// What the head of a lane waits for: a task it is `after`; or another member of its event, that is
// not at the head of its lane or may not start itself.
StrictRun::Wait StrictRun::wait_of(const Head& of) const {
  const auto lane_of = [&](int position, int task) {
    const Task& t = programs_[static_cast<size_t>(position)].tasks[static_cast<size_t>(task)];
    return Head{position, static_cast<int>(t.lane)};
  };
  const auto unfinished_after = [&](int position, int task) {
    for (const int after :
         programs_[static_cast<size_t>(position)].tasks[static_cast<size_t>(task)].after)
      if (!ran_[static_cast<size_t>(event(position, after))]) return after;
    return -1;
  };
  const int task = head(of);
  if (const int after = unfinished_after(of.position, task); after >= 0)
    return {of, task, after, of.position, lane_of(of.position, after)};
  for (int position = 0; position < static_cast<int>(programs_.size()); ++position) {
    const std::vector<int>& events = rendezvous_.event[static_cast<size_t>(position)];
    for (int index = 0; index < static_cast<int>(events.size()); ++index) {
      if (events[static_cast<size_t>(index)] != event(of.position, task)) continue;
      const Head other = lane_of(position, index);
      const bool waits = head(other) != index || unfinished_after(position, index) >= 0;
      if (other != of && waits) return {of, task, index, position, other};
    }
  }
  STRAIT_CHECK(false, "a task at the head of its lane waits for nothing");
}

std::optional<Problem> StrictRun::deadlock() const {
  Head at;
  const auto find_stuck = [&] {
    for (at.position = 0; at.position < static_cast<int>(programs_.size()); ++at.position)
      for (at.lane = 0; at.lane < kNumLanes; ++at.lane)
        if (head(at) >= 0) return true;
    return false;
  };
  if (std::find(ran_.begin(), ran_.end(), 0) == ran_.end() || !find_stuck()) return std::nullopt;
  std::vector<Wait> walk;
  size_t start = 0;
  for (;;) {
    const auto seen =
        std::find_if(walk.begin(), walk.end(), [&](const Wait& wait) { return wait.of == at; });
    if (seen != walk.end()) {
      start = static_cast<size_t>(seen - walk.begin());
      break;
    }
    walk.push_back(wait_of(at));
    at = walk.back().next;
  }
  const auto name = [&](int position, int task) {
    return fmt::format(
        "[position {}] {}", position,
        to_string(programs_[static_cast<size_t>(position)].tasks[static_cast<size_t>(task)]));
  };
  std::string text;
  for (size_t i = start; i < walk.size(); ++i) {
    const Wait& wait = walk[i];
    text += fmt::format("{} waits for {}", name(wait.of.position, wait.task),
                        name(wait.awaited_position, wait.awaited));
    if (const int first = head(wait.next); first != wait.awaited)
      text += fmt::format(", which is behind {}", name(wait.next.position, first));
    text += i + 1 < walk.size() ? "; " : ": a deadlock";
  }
  return Problem{walk[start].of.position, walk[start].task, text};
}

}  // namespace strait
