// parallel/sim/simulate.h: times programs on a cluster nobody owns: a fluid model.
//
// Order comes from lanes: each runs its tasks one at a time, in program order, a task when those it is `after` are done; a
// message, or a collective of several positions, starts when every member has it at the head of its lane. Time comes
// from links: a running task progresses at a fraction x <= 1 of the speed it has alone, uses x times its solo rate of
// each link it needs, and all tasks of a position share its links max-min fair in x (progressive filling). One rank
// stands for all data columns of its position, so what its peers send to it equals what it sends.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/program/task.h"

namespace strait {

// Of one rank. Cores are a GPU's multiprocessors: compute takes what transfers leave.
enum class Link : uint8_t { card_up, card_down, fabric, cores };
inline constexpr int kNumLinks = 4;
const char* name_of(Link link);

// What a task takes when it runs alone.
struct TaskCost {
  double latency_seconds = 0;  // before anything moves; uses no link
  double seconds = 0;          // of progress, alone
  std::array<double, kNumLinks> share{};  // of each link's capacity while it progresses alone: in [0, 1]
  double bytes_near = 0, bytes_far = 0;   // payload sent by one rank, for the accounts
};

struct TaskTime {
  double start = 0, end = 0;  // seconds
};

struct Simulation {
  std::vector<std::vector<TaskTime>> times;  // [position][task]
  double makespan = 0;
};

// REQUIRES: costs[p][i] belongs to programs[p].tasks[i]; programs that have passed validate(); otherwise InternalError
// when nothing can go on, naming the tasks at the heads of the lanes. Cost: O(tasks x lanes).
Simulation simulate(std::span<const Program> programs, const std::vector<std::vector<TaskCost>>& costs);

// One position's account of a simulated or measured step.
struct LaneAccount {
  double compute_seconds = 0;   // the compute lane was busy
  double transfer_seconds = 0;  // at least one transfer was running
  double hidden_seconds = 0;    // of those, under compute
  double exposed_seconds = 0;   // transfer_seconds - hidden_seconds
  double idle_seconds = 0;      // neither
};
LaneAccount account(const Program& program, std::span<const TaskTime> times, double makespan);

}  // namespace strait
