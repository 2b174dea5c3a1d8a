#include "parallel/pipeline/run_slots.h"

#include <algorithm>
#include <deque>

namespace strait {
namespace {

constexpr double kNotYet = -1;  // before any time: results have not been made

class Runner {
 public:
  Runner(const Schedule& schedule, const std::vector<std::vector<double>>& durations)
      : schedule_(schedule),
        durations_(durations),
        forward_end_(results(), kNotYet),
        gradient_end_(results(), kNotYet),
        holder_(static_cast<size_t>(schedule.num_stages) * schedule.num_copies),
        free_(schedule.chunks.size(), 0),
        waiting_(schedule.chunks.size(), true) {
    run_.next_slot.assign(schedule.chunks.size(), 0);
    run_.next_ready.resize(schedule.chunks.size());
    for (const std::vector<Slot>& slots : schedule.slots) run_.times.emplace_back(slots.size());
    for (int position = 0; position < schedule.num_positions(); ++position) {
      for (const Chunk& chunk : schedule.chunks[position])
        holder_[chunk.stage * schedule.num_copies + chunk.copy] = position;
      queue_.push_back(position);
    }
  }

  SlotRun run(const std::function<int(const SlotRun&)>& at_stand) {
    run_queue();
    for (; at_stand && !run_.finished(); run_queue()) {
      find_ready();
      const int changed = at_stand(run_);
      if (changed < 0) break;
      queue_.push_back(changed);
    }
    find_ready();
    return std::move(run_);
  }

 private:
  void run_queue() {
    while (!queue_.empty()) {
      const int position = queue_.front();
      queue_.pop_front();
      waiting_[position] = false;
      while (run_next(position)) {
      }
    }
  }

  void find_ready() {
    for (int position = 0; position < schedule_.num_positions(); ++position) {
      const std::vector<Slot>& slots = schedule_.slots[position];
      const int first = run_.next_slot[position];
      run_.next_ready[position].clear();
      for (int slot = first; slot < std::min<int>(first + width(position, first), slots.size());
           ++slot)
        run_.next_ready[position].push_back(inputs_at(position, slots[slot]) != kNotYet);
    }
  }

  size_t results() const {
    return static_cast<size_t>(schedule_.num_stages) * schedule_.num_microbatches;
  }
  int stage_of(int position, const Slot& slot) const {
    return schedule_.chunks[position][slot.chunk].stage;
  }
  double& at(std::vector<double>& ends, int stage, int microbatch) const {
    return ends[static_cast<size_t>(stage) * schedule_.num_microbatches + microbatch];
  }
  int width(int position, int slot) const {
    const std::vector<Slot>& slots = schedule_.slots[position];
    return slot < static_cast<int>(slots.size()) && slots[slot].paired ? 2 : 1;
  }

  // When the slot's inputs are there, or kNotYet.
  double inputs_at(int position, const Slot& slot) {
    const int stage = stage_of(position, slot), m = slot.microbatch;
    switch (slot.work) {
      case Work::forward:
        return stage == 0 ? 0 : at(forward_end_, stage - 1, m);
      case Work::backward:
      case Work::input_gradient: {
        const double own = at(forward_end_, stage, m);
        const double after =
            stage + 1 == schedule_.num_stages ? own : at(gradient_end_, stage + 1, m);
        return own == kNotYet || after == kNotYet ? kNotYet : std::max(own, after);
      }
      case Work::weight_gradient:
        return at(gradient_end_, stage, m);
    }
    return kNotYet;
  }

  bool run_next(int position) {
    const std::vector<Slot>& slots = schedule_.slots[position];
    const int first = run_.next_slot[position];
    const int end = first + width(position, first);
    if (end > static_cast<int>(slots.size())) return false;
    double start = free_[position];
    for (int slot = first; slot < end; ++slot) {
      const double inputs = inputs_at(position, slots[slot]);
      if (inputs == kNotYet) return false;
      start = std::max(start, inputs);
    }
    const double finish = start + durations_[position][first];
    for (int slot = first; slot < end; ++slot) {
      run_.times[position][slot] = {start, finish};
      give(position, slots[slot], finish);
    }
    free_[position] = finish;
    run_.next_slot[position] = end;
    return true;
  }

  void give(int position, const Slot& slot, double time) {
    const int stage = stage_of(position, slot);
    if (slot.work == Work::forward) {
      at(forward_end_, stage, slot.microbatch) = time;
      wake(stage + 1, slot.microbatch);
    } else if (slot.work != Work::weight_gradient) {
      at(gradient_end_, stage, slot.microbatch) = time;
      wake(stage - 1, slot.microbatch);
    }
  }

  void wake(int stage, int microbatch) {
    if (stage < 0 || stage >= schedule_.num_stages) return;
    const int position = holder_[stage * schedule_.num_copies + schedule_.copy_of(microbatch)];
    if (waiting_[position]) return;
    waiting_[position] = true;
    queue_.push_back(position);
  }

  const Schedule& schedule_;
  const std::vector<std::vector<double>>& durations_;
  std::vector<double> forward_end_, gradient_end_;  // [stage][micro-batch]
  std::vector<int> holder_;                         // [stage][copy] its position
  std::vector<double> free_;                        // [position] end of what it ran last
  std::vector<bool> waiting_;                       // [position] in the queue
  std::deque<int> queue_;
  SlotRun run_;
};

}  // namespace

bool SlotRun::finished() const {
  for (size_t position = 0; position < times.size(); ++position)
    if (next_slot[position] < static_cast<int>(times[position].size())) return false;
  return true;
}

SlotRun run_slots(const Schedule& schedule, const std::vector<std::vector<double>>& durations) {
  return Runner(schedule, durations).run({});
}

SlotRun run_slots(const Schedule& schedule) { return run_slots(schedule, nullptr); }

SlotRun run_slots(const Schedule& schedule, const std::function<int(const SlotRun&)>& at_stand) {
  std::vector<std::vector<double>> durations;
  for (const std::vector<Slot>& slots : schedule.slots) durations.emplace_back(slots.size(), 1.0);
  return Runner(schedule, durations).run(at_stand);
}

}  // namespace strait
