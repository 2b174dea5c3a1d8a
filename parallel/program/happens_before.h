// parallel/program/happens_before.h: which tasks have finished before another starts, by the order
// of lanes, by `after` and by what positions do together; and whether everything ever starts.
//
// Semantics, the strictest there are: each lane runs one task at a time in its order, a task starts
// when all it is `after` have finished, and tasks that happen together start when each of them is
// at the head of its lane and may start. Nothing is left to chance, so one run decides.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "parallel/program/rendezvous.h"
#include "parallel/program/task.h"

namespace strait {

// By one program alone. REQUIRES: `after` names earlier tasks of the list.
class LocalOrder {
 public:
  explicit LocalOrder(const Program& program);
  // Cost: constant. False does not mean that other positions cannot bring the order about.
  bool before(int earlier, int later) const;

 private:
  const Program& program_;
  std::vector<int> place_;  // of a task in its lane
  std::vector<std::array<int, kNumLanes>>
      finished_;  // of each lane, how many have finished when a task starts
};

// A task that must come before another of the same position.
struct Requirement {
  int position = 0, earlier = 0, later = 0;
};

// One run of all programs. REQUIRES: as above, and a rendezvous without problems. Cost: O(tasks +
// edges).
class StrictRun {
 public:
  StrictRun(std::span<const Program> programs, const Rendezvous& rendezvous);
  // Null when every task has run; otherwise a circle of tasks that wait for one another.
  std::optional<Problem> deadlock() const;
  // For each whether it holds. REQUIRES: no deadlock. Cost: one pass over all tasks per 64
  // requirements.
  std::vector<bool> hold(std::span<const Requirement> requirements) const;

 private:
  struct Head {
    int position = 0, lane = 0;
    friend bool operator==(const Head&, const Head&) = default;
  };
  struct Wait {
    Head of;
    int task = -1;  // waits for
    int awaited = -1, awaited_position = 0;
    Head next;  // the head in whose way that is
  };
  int event(int position, int task) const {
    return rendezvous_.event[static_cast<size_t>(position)][static_cast<size_t>(task)];
  }
  void link();
  void run();
  int head(const Head& of) const;  // task; -1: the lane is empty
  Wait wait_of(const Head& of) const;

  std::span<const Program> programs_;
  const Rendezvous& rendezvous_;
  std::vector<int> first_successor_, successors_;  // by event
  std::vector<int> order_;                         // events, as they ran
  std::vector<uint8_t> ran_;
};

}  // namespace strait
