#include "parallel/sim/simulate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>

#include "core/errors.h"
#include "parallel/sim/fair_share.h"
#include "parallel/sim/task_graph.h"

namespace strait {
namespace {

constexpr double kRounding = 1e-12;

size_t at(int index) { return static_cast<size_t>(index); }

// Every (position, lane) is a slot. A running task is a flow, kept in the slot of its first member:
// the owner.
class Simulator {
 public:
  Simulator(std::span<const Program> programs, const std::vector<std::vector<TaskCost>>& costs,
            const SharedCores& shared)
      : graph_(programs), costs_(costs), waits_(graph_.waits()) {
    if (shared.cores > 0) machine_load_ = shared.of_rank * shared.ranks_per_position / shared.cores;
    slots_.resize(programs.size() * kNumLanes);
    flows_.resize(slots_.size());
    is_reached_.assign(programs.size(), false);
    for (const Program& program : programs) times_.emplace_back(program.tasks.size());
  }

  Simulation run();

 private:
  struct Slot {
    int waiting = -1;  // task that has come to the head of the lane and waits for its other members
    int running = -1;
    int owner = -1;                        // of the running task
    bool moves = false;                    // it runs and its latency is over
    std::array<double, kNumLinks> load{};  // of this member's links at speed 1
    double machine = 0;                    // of the shared cores, likewise
  };
  struct Flow {
    int group = -1;
    bool in_latency = false;
    double seconds = 0, left = 0;  // at speed 1: in all, and left at the moment `since`
    double since = 0, speed = 0;
    uint32_t version = 0;  // events of an earlier version are void
  };
  struct Event {
    double time;
    int owner;
    uint32_t version;
    bool operator>(const Event& other) const {
      return time != other.time ? time > other.time : owner > other.owner;
    }
  };
  double machine_load_of(const TaskCost& cost) const {
    return machine_load_ * cost.share[at(static_cast<int>(Link::cores))];
  }
  static int slot_of(int position, int lane) { return position * kNumLanes + lane; }

  void is_ready(int position, int index);
  void start(int group, int lane);
  void begin_to_move(int owner);
  void finish(int owner);
  void rate_changed_positions();
  void reach(int position);
  void rate_reached();
  void set_speed(Flow& flow, int owner, double speed);
  std::string heads_of_lanes() const;

  const TaskGraph graph_;
  const std::vector<std::vector<TaskCost>>& costs_;
  // Of the shared cores, by one position whose cores are all busy; it may be above 1. 0: none.
  double machine_load_ = 0;
  std::vector<int> waits_;  // by number: unfinished tasks it still waits for
  std::vector<std::vector<TaskTime>> times_;
  std::vector<Slot> slots_;
  std::vector<Flow> flows_;  // by owner
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  double now_ = 0, makespan_ = 0;
  size_t num_done_ = 0;
  std::vector<int> changed_;  // positions where a flow began or ended at this moment

  // Scratch of one rating: positions that moving tasks tie together, the owners of those tasks.
  std::vector<bool> is_reached_;  // [position]
  std::vector<int> reached_, moving_, all_reached_;
  std::vector<std::pair<int, int>> ready_;
  FairShare share_;
};

Simulation Simulator::run() {
  for (int p = 0; p < graph_.num_positions(); ++p)
    for (int i = 0; i < graph_.num_tasks(p); ++i)
      if (graph_.waits()[graph_.number(p, i)] == 0) is_ready(p, i);
  rate_changed_positions();
  while (!events_.empty()) {
    now_ = events_.top().time;
    while (!events_.empty() && events_.top().time == now_) {
      const Event event = events_.top();
      events_.pop();
      Flow& flow = flows_[at(event.owner)];
      if (flow.version != event.version) continue;
      ++flow.version;
      if (flow.in_latency)
        begin_to_move(event.owner);
      else
        finish(event.owner);
    }
    rate_changed_positions();  // once for all that has happened at this moment
  }
  STRAIT_CHECK(num_done_ == graph_.num_tasks(),
               fmt::format("nothing can go on after {:.6g} s: {}", makespan_, heads_of_lanes()));
  return {std::move(times_), makespan_};
}

// A task has nothing left to wait for but its other members.
void Simulator::is_ready(int position, int index) {
  const int lane = static_cast<int>(graph_.task(position, index).lane);
  slots_[at(slot_of(position, lane))].waiting = index;
  const int group = graph_.group_of(graph_.number(position, index));
  for (const int other : graph_.members(group)) {
    const int theirs = slots_[at(slot_of(other, lane))].waiting;
    if (other == position) continue;
    if (theirs < 0 || !graph_.are_one(position, index, other, theirs)) return;
  }
  start(group, lane);
}

void Simulator::start(int group, int lane) {
  const std::vector<int>& members = graph_.members(group);
  const int owner = slot_of(members.front(), lane);
  double latency = 0, seconds = 0;
  for (const int p : members) {
    Slot& slot = slots_[at(slot_of(p, lane))];
    slot.running = std::exchange(slot.waiting, -1);
    slot.owner = owner;
    times_[at(p)][at(slot.running)].start = now_;
    latency = std::max(latency, costs_[at(p)][at(slot.running)].latency_seconds);
    // Where not even one position's ranks can all run at once, they take longer.
    const TaskCost& cost = costs_[at(p)][at(slot.running)];
    seconds = std::max(seconds, cost.seconds * std::max(1.0, machine_load_of(cost)));
  }
  for (const int p : members) {
    Slot& slot = slots_[at(slot_of(p, lane))];
    const TaskCost& cost = costs_[at(p)][at(slot.running)];
    for (size_t link = 0; link < kNumLinks; ++link)
      slot.load[link] = seconds > 0 ? cost.share[link] * (cost.seconds / seconds) : 0;
    slot.machine =
        seconds > 0 ? std::min(1.0, machine_load_of(cost) * (cost.seconds / seconds)) : 0;
  }
  Flow& flow = flows_[at(owner)];
  flow.group = group;
  flow.seconds = flow.left = seconds;
  flow.in_latency = latency > 0;
  if (flow.in_latency)
    events_.push({now_ + latency, owner, flow.version});
  else
    begin_to_move(owner);
}

void Simulator::begin_to_move(int owner) {
  Flow& flow = flows_[at(owner)];
  flow.in_latency = false;
  flow.since = now_;
  flow.speed = 0;
  if (flow.left == 0) {
    events_.push({now_, owner, flow.version});
    return;
  }
  for (const int p : graph_.members(flow.group)) {
    slots_[at(slot_of(p, owner % kNumLanes))].moves = true;
    changed_.push_back(p);
  }
}

void Simulator::finish(int owner) {
  ready_.clear();
  makespan_ = now_;
  for (const int p : graph_.members(flows_[at(owner)].group)) {
    Slot& slot = slots_[at(slot_of(p, owner % kNumLanes))];
    slot.moves = false;
    changed_.push_back(p);
    times_[at(p)][at(slot.running)].end = now_;
    ++num_done_;
    for (const int follower : graph_.followers(graph_.number(p, slot.running)))
      if (--waits_[graph_.number(p, follower)] == 0) ready_.emplace_back(p, follower);
    slot.running = -1;
  }
  // All members are free before any goes on: the next task of the owner's lane takes the place of
  // this flow.
  for (const auto& [position, index] : ready_) is_ready(position, index);
}

void Simulator::rate_changed_positions() {
  for (const int p : changed_) {
    if (is_reached_[at(p)]) continue;
    reached_.clear();
    moving_.clear();
    reach(p);
    for (int other = 0; machine_load_ > 0 && other < graph_.num_positions(); ++other) reach(other);
    for (size_t i = 0; i < reached_.size(); ++i)
      for (int lane = 0; lane < kNumLanes; ++lane) {
        const Slot& slot = slots_[at(slot_of(reached_[i], lane))];
        if (!slot.moves) continue;
        const std::vector<int>& members = graph_.members(flows_[at(slot.owner)].group);
        if (members.front() == reached_[i]) moving_.push_back(slot.owner);
        for (const int member : members) reach(member);
      }
    rate_reached();
    all_reached_.insert(all_reached_.end(), reached_.begin(), reached_.end());
  }
  for (const int p : all_reached_) is_reached_[at(p)] = false;
  all_reached_.clear();
  changed_.clear();
}

void Simulator::reach(int position) {
  if (is_reached_[at(position)]) return;
  is_reached_[at(position)] = true;
  reached_.push_back(position);
}

// Speeds of all tasks that move on the reached positions: transfers first, then compute with what
// is left.
void Simulator::rate_reached() {
  std::sort(reached_.begin(), reached_.end());
  std::sort(moving_.begin(), moving_.end());
  const auto links_of = [&](int position) {
    return static_cast<int>(std::lower_bound(reached_.begin(), reached_.end(), position) -
                            reached_.begin()) *
           kNumLinks;
  };
  const auto is_first = [](int owner) { return is_transfer(static_cast<Lane>(owner % kNumLanes)); };
  std::stable_partition(moving_.begin(), moving_.end(), is_first);
  const int machine = static_cast<int>(reached_.size()) * kNumLinks;
  share_.reset(machine + 1);
  bool transfers = true;
  for (const int owner : moving_) {
    if (transfers && !is_first(owner)) share_.fill();
    transfers = is_first(owner);
    share_.add_flow();
    for (const int p : graph_.members(flows_[at(owner)].group)) {
      const Slot& slot = slots_[at(slot_of(p, owner % kNumLanes))];
      for (int link = 0; link < kNumLinks; ++link)
        share_.add_load(links_of(p) + link, slot.load[at(link)]);
      share_.add_load(machine, slot.machine);
    }
  }
  share_.fill();
  for (size_t i = 0; i < moving_.size(); ++i)
    set_speed(flows_[at(moving_[i])], moving_[i], share_.speed(static_cast<int>(i)));
}

void Simulator::set_speed(Flow& flow, int owner, double speed) {
  if (speed == flow.speed) return;
  flow.left -= flow.speed * (now_ - flow.since);
  flow.since = now_;
  flow.speed = speed;
  ++flow.version;
  // Done but for rounding is done: at a speed of 0 it would wait for others instead.
  const bool is_done = flow.left <= kRounding * (flow.seconds + now_);
  if (is_done)
    events_.push({now_, owner, flow.version});
  else if (speed > 0)
    events_.push({now_ + flow.left / speed, owner, flow.version});
}

std::string Simulator::heads_of_lanes() const {
  std::string text;
  for (int p = 0; p < graph_.num_positions(); ++p) {
    std::array<bool, kNumLanes> has_head{};
    for (int i = 0; i < graph_.num_tasks(p); ++i) {
      const Task& task = graph_.task(p, i);
      const size_t lane = static_cast<size_t>(task.lane);
      const bool is_done = waits_[graph_.number(p, i)] == 0 &&
                           slots_[at(slot_of(p, static_cast<int>(lane)))].waiting != i;
      if (is_done || std::exchange(has_head[lane], true)) continue;
      text += fmt::format("{}position {} {}: {}", text.empty() ? "" : "; ", p, name_of(task.lane),
                          to_string(task));
    }
  }
  return text;
}

void check_costs(std::span<const Program> programs,
                 const std::vector<std::vector<TaskCost>>& costs) {
  STRAIT_CHECK(costs.size() == programs.size(),
               fmt::format("costs of {} positions, programs of {}", costs.size(), programs.size()));
  const auto is_time = [](double seconds) { return seconds >= 0 && std::isfinite(seconds); };
  const auto is_share = [](double share) { return share >= 0 && share <= 1; };
  for (size_t p = 0; p < programs.size(); ++p) {
    STRAIT_CHECK(programs[p].position == static_cast<int>(p),
                 fmt::format("program {} says it is of position {}", p, programs[p].position));
    STRAIT_CHECK(costs[p].size() == programs[p].tasks.size(),
                 fmt::format("position {}: {} costs, {} tasks", p, costs[p].size(),
                             programs[p].tasks.size()));
    for (size_t i = 0; i < costs[p].size(); ++i) {
      const TaskCost& cost = costs[p][i];
      STRAIT_CHECK(
          is_time(cost.latency_seconds) && is_time(cost.seconds) &&
              std::all_of(cost.share.begin(), cost.share.end(), is_share),
          fmt::format(
              "position {}: cost of {}: latency {} s, {} s, shares {}, {}, {}, {} (in [0, 1])", p,
              to_string(programs[p].tasks[i]), cost.latency_seconds, cost.seconds, cost.share[0],
              cost.share[1], cost.share[2], cost.share[3]));
    }
  }
}

}  // namespace

const char* name_of(Link link) {
  static constexpr const char* kNames[kNumLinks] = {"card_up", "card_down", "fabric", "cores"};
  return kNames[static_cast<int>(link)];
}

Simulation simulate(std::span<const Program> programs,
                    const std::vector<std::vector<TaskCost>>& costs, const SharedCores& shared) {
  check_costs(programs, costs);
  return Simulator(programs, costs, shared).run();
}

}  // namespace strait
