// parallel/program/passes/peers.cpp: what crosses from stage to stage, and in which order.
//
// Pipe lanes are in order and a send waits for its receive, so two positions that disagree about
// the order of their messages stop for good. All positions therefore follow one order of all
// messages, by a time for each. Every message's time is between the end of the slot that makes it
// and the start of the slot that takes it, both with nominal durations. So messages and slots
// together have one order that agrees with all lanes, and that is why nothing can deadlock.
//
// Within these bounds the order does not matter as long as slots take their nominal times. The
// middle is what suffers least when they do not: with the earliest time a receive waits behind
// messages that nobody needs yet, with the latest a send behind ones that are not made yet.
// Simulated with stages, I and W up to 1.5 times as long or short (8 and 16 positions, messages
// that take no time), the middle makes a step at most 7% longer than slots alone, the ends 37% and
// 24%.
//
// At one time every second boundary between positions comes first, so that no message waits for a
// chain of others; then follow boundary, direction, micro-batch. Two messages of opposite direction
// between the same two positions become one swap when they are neighbours on both pipe lanes and
// the one that comes first is not needed for the other.
#include <algorithm>
#include <tuple>

#include "core/errors.h"
#include "parallel/program/passes/passes.h"

namespace strait {
namespace {

struct Crossing {
  Message message;
  ChunkPlace from, to;
  SlotTime maker, taker;  // the slots at its ends

  double time() const { return (maker.end + taker.start) / 2; }
  int boundary() const {
    const int low = std::min(from.position, to.position),
              high = std::max(from.position, to.position);
    return high - low == 1 ? low : high;  // between first and last: as if it followed the last
  }
  auto order() const {
    return std::tuple(time(), boundary() % 2, boundary(), from.position > to.position,
                      message.microbatch, message.layer);
  }
};

// What one position does on its pipe lane: a crossing, or two as a swap.
struct PipeTask {
  const Crossing* sends = nullptr;
  const Crossing* receives = nullptr;
  double time = 0;
};

std::vector<Crossing> find_crossings(const StepShape& shape, const Schedule& schedule,
                                     const SlotTimes& times) {
  std::vector<Crossing> crossings;
  const auto add = [&](ChunkPlace from, ChunkPlace to, Message message) {
    const SlotTime* maker = times.find(from.position, message.pass, message.microbatch, from.chunk);
    const SlotTime* taker = times.find(to.position, message.pass, message.microbatch, to.chunk);
    if (maker == nullptr || taker == nullptr) return;  // an evaluation has no backward
    crossings.push_back(
        {.message = message, .from = from, .to = to, .maker = *maker, .taker = *taker});
  };
  for (int microbatch = 0; microbatch < schedule.num_microbatches; ++microbatch) {
    const int copy = schedule.copy_of(microbatch);
    for (int stage = 0; stage + 1 < schedule.num_stages; ++stage) {
      const ChunkPlace here = schedule.place_of(stage, copy),
                       next = schedule.place_of(stage + 1, copy);
      if (here.position == next.position) continue;
      Message message{.microbatch = microbatch,
                      .pass = Pass::forward,
                      .layer = shape.stages[static_cast<size_t>(stage) + 1].first_layer,
                      .rows = shape.microbatch_rows};
      add(here, next, message);
      message.pass = Pass::input_gradient;
      add(next, here, message);
    }
  }
  std::sort(crossings.begin(), crossings.end(),
            [](const Crossing& a, const Crossing& b) { return a.order() < b.order(); });
  return crossings;
}

// Neighbours on both lanes, opposite, and `first` is not needed for `second`: the slot that makes
// the second comes before the one that takes the first. The other way round holds for any two in
// this order.
bool can_swap(const Crossing& first, const Crossing& second) {
  return first.from.position == second.to.position && first.to.position == second.from.position &&
         second.maker.end <= first.taker.start;
}

// [position]: its pipe tasks in order.
std::vector<std::vector<PipeTask>> pair_up(const std::vector<Crossing>& crossings,
                                           int num_positions) {
  std::vector<std::vector<PipeTask>> lanes(static_cast<size_t>(num_positions));
  for (const Crossing& crossing : crossings) {
    auto& sender = lanes[static_cast<size_t>(crossing.from.position)];
    auto& receiver = lanes[static_cast<size_t>(crossing.to.position)];
    if (!sender.empty() && !receiver.empty()) {
      PipeTask& mine = sender.back();
      PipeTask& theirs = receiver.back();
      const Crossing* before = mine.receives;
      if (before != nullptr && mine.sends == nullptr && before == theirs.sends &&
          theirs.receives == nullptr && can_swap(*before, crossing)) {
        mine.sends = theirs.receives = &crossing;
        mine.time = theirs.time = std::max(before->time(), crossing.maker.end);
        continue;
      }
    }
    sender.push_back({.sends = &crossing, .time = crossing.time()});
    receiver.push_back({.receives = &crossing, .time = crossing.time()});
  }
  return lanes;
}

Task task_of(const PipeTask& pipe) {
  const Crossing& named = pipe.sends != nullptr ? *pipe.sends : *pipe.receives;
  const bool outward = pipe.sends != nullptr;
  Task task{.kind = !outward                   ? Kind::receive
                    : pipe.receives != nullptr ? Kind::swap
                                               : Kind::send,
            .pass = named.message.pass,
            .lane = Lane::pipe,
            .microbatch = named.message.microbatch,
            .layer = named.message.layer,
            .chunk = outward ? named.from.chunk : named.to.chunk,
            .positions = {outward ? named.to.position : named.from.position}};
  if (pipe.sends != nullptr) task.send = pipe.sends->message;
  if (pipe.receives != nullptr) task.receive = pipe.receives->message;
  return task;
}

}  // namespace

std::vector<Program> add_messages(const StepShape& shape, const Schedule& schedule,
                                  const SlotTimes& times, std::vector<Program> programs) {
  const std::vector<Crossing> crossings = find_crossings(shape, schedule, times);
  STRAIT_CHECK(crossings.empty() || shape.microbatch_rows > 0,
               "messages between stages need microbatch_rows");
  const auto lanes = pair_up(crossings, schedule.num_positions());
  for (Program& program : programs) {
    const std::vector<PipeTask>& lane = lanes[static_cast<size_t>(program.position)];
    std::vector<Task> tasks;
    size_t next = 0;
    for (Task& task : program.tasks) {
      const SlotTime& slot = times.of(program.position, task);
      for (; next < lane.size() && lane[next].time <= slot.start; ++next)
        tasks.push_back(task_of(lane[next]));
      tasks.push_back(std::move(task));
    }
    for (; next < lane.size(); ++next) tasks.push_back(task_of(lane[next]));
    program.tasks = std::move(tasks);
  }
  return programs;
}

}  // namespace strait
