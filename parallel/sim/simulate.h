// parallel/sim/simulate.h: times programs on a cluster nobody owns: a fluid model.
//
// Order comes from lanes: each runs its tasks one at a time, in program order, a task when those it
// is `after` are done; a task with `positions` starts when every member has it at the head of its
// lane. Time comes from links: a running task progresses at a fraction x <= 1 of the speed it has
// alone and takes x times its share of each link it needs. Transfers (lanes near, far, pipe, shard)
// share the links max-min fair in x (parallel/sim/fair_share.h); compute and host tasks then share
// what transfers leave. So a transfer that takes 20 of 132 cores slows compute to 112/132.
//
// A task of several positions is one flow: it has one x, limited by the fullest link of any member,
// and what its slowest member makes it leave elsewhere is free for others. Its latency and seconds
// are the largest of its members'; a member whose own seconds are fewer loads its links in
// proportion, so it moves the same bytes in the longer time. One rank stands for all data columns
// of its position, so what its peers send to it equals what it sends.
//
// Where all ranks share the cores of one machine, those are one more link, of all positions: ranks
// that wait leave their part to the others.
//
// Exact but for rounding: rates change only at events, and only on positions that an event touches,
// or that a running task ties to one. The same input gives the same bits.
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

constexpr bool is_transfer(Lane lane) { return lane != Lane::compute && lane != Lane::host; }

// What a task takes when it runs alone.
struct TaskCost {
  double latency_seconds = 0;  // before anything moves; uses no link
  double seconds = 0;          // of progress, alone
  // Of each link's capacity while it progresses alone, in [0, 1].
  std::array<double, kNumLinks> share{};
  double bytes_near = 0, bytes_far = 0;  // payload sent by one rank, for the accounts
};

// Seconds. A task of several positions starts when it starts on all of them.
struct TaskTime {
  double start = 0, end = 0;
};

// The cores of the one machine on which all ranks run.
struct SharedCores {
  double cores = 0;               // 0: ranks have cores of their own
  double of_rank = 1;             // what a rank's compute takes of them alone
  double ranks_per_position = 1;  // which do the same at the same time
};

struct Simulation {
  std::vector<std::vector<TaskTime>> times;  // [position][task]
  double makespan = 0;
};

// REQUIRES: costs[p][i] belongs to programs[p].tasks[i]; programs[p].position == p; programs that
// have passed validate(). Errors: InternalError for costs out of range, and when nothing can go on,
// naming the tasks at the heads of the lanes. Cost: O(tasks x lanes).
Simulation simulate(std::span<const Program> programs,
                    const std::vector<std::vector<TaskCost>>& costs,
                    const SharedCores& shared = {});

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
