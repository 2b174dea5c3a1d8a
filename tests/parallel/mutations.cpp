#include "tests/parallel/mutations.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

namespace strait {
namespace {

const Task& task_of(std::span<const Program> programs, int position, int task) {
  return programs[static_cast<size_t>(position)].tasks[static_cast<size_t>(task)];
}

// The ways to aim a task at something else; each differs from the original.
std::vector<Task> retargets(const StepShape& shape, const Program& program, int num_positions,
                            const Task& task) {
  std::vector<Task> variants;
  const auto add = [&](auto change) {
    Task other = task;
    change(other);
    variants.push_back(std::move(other));
  };
  // Of a message: the whole task with it, as a wrong lowering would.
  const auto in_message = [](Task& t, auto change) {
    if (t.send.microbatch >= 0)
      change(t.send);
    else if (t.receive.microbatch >= 0)
      change(t.receive);
  };
  for (int lane = 0; lane < kNumLanes; ++lane)
    if (lane != static_cast<int>(task.lane))
      add([&](Task& t) { t.lane = static_cast<Lane>(lane); });
  const int count = program.num_microbatches;
  for (const int step : {1, count - 1})
    if (task.microbatch >= 0)
      add([&](Task& t) {
        t.microbatch = (t.microbatch + step) % count;
        in_message(t, [&](Message& m) { m.microbatch = t.microbatch; });
      });
  for (const int step : {-1, 1})
    if (task.layer >= 0)
      add([&](Task& t) {
        t.layer += step;
        in_message(t, [&](Message& m) { m.layer = t.layer; });
      });
  if (task.microbatch >= 0)
    for (const Pass pass : {Pass::forward, Pass::input_gradient, Pass::weight_gradient})
      if (pass != task.pass)
        add([&](Task& t) {
          t.pass = pass;
          in_message(t, [&](Message& m) { m.pass = pass; });
        });
  if (task.kind == Kind::swap) {  // the other direction
    add([&](Task& t) { t.receive.microbatch = (t.receive.microbatch + 1) % count; });
    add([&](Task& t) { ++t.receive.layer; });
  }
  const auto num_buckets =
      static_cast<int>(shape.buckets[static_cast<size_t>(program.position)].size());
  if (task.bucket >= 0 && num_buckets > 1)
    add([&](Task& t) { t.bucket = (t.bucket + 1) % num_buckets; });
  if (task.num_parts > 1) add([&](Task& t) { t.part = (t.part + 1) % t.num_parts; });
  if (task.microbatch >= 0) add([&](Task& t) { ++t.chunk; });
  // A message where none belongs.
  if (task.send.microbatch < 0)
    add([&](Task& t) { t.send = {.microbatch = 0, .layer = 1, .rows = shape.microbatch_rows}; });
  for (int peer = 0; peer < num_positions && !task.positions.empty(); ++peer)
    if (peer != program.position && peer != task.positions[0])
      add([&](Task& t) { t.positions[0] = peer; });
  if (task.positions.empty() && num_positions > 1)
    add([&](Task& t) { t.positions = {program.position == 0 ? 1 : 0}; });
  return variants;
}

std::vector<Task> resizes(const Task& task) {
  std::vector<Task> variants;
  const auto add = [&](auto change) {
    Task other = task;
    change(other);
    variants.push_back(std::move(other));
  };
  for (const int64_t more : {-1, 1}) {
    if (task.capacity_rows > 0) add([&](Task& t) { t.capacity_rows += more; });
    if (task.send.microbatch >= 0) add([&](Task& t) { t.send.rows += more; });
    if (task.receive.microbatch >= 0) add([&](Task& t) { t.receive.rows += more; });
  }
  if (task.capacity_rows > 0) add([](Task& t) { t.capacity_rows = 0; });
  if (task.kind == Kind::experts || task.kind == Kind::dispatch || task.kind == Kind::combine)
    add([](Task& t) { ++t.num_parts; });
  return variants;
}

// A program whose tasks stand in another order: order[i] is the old index of its i-th task. -1
// leaves one out, an index twice repeats one.
Program in_order(const Program& program, const std::vector<int>& order) {
  Program result{
      .tasks = {}, .num_microbatches = program.num_microbatches, .position = program.position};
  std::vector<int> place(program.tasks.size(), -1);
  for (size_t i = 0; i < order.size(); ++i)
    if (place[static_cast<size_t>(order[i])] < 0)
      place[static_cast<size_t>(order[i])] = static_cast<int>(i);
  for (const int old : order) {
    Task task = program.tasks[static_cast<size_t>(old)];
    std::vector<int> after;
    for (const int edge : task.after)
      if (place[static_cast<size_t>(edge)] >= 0) after.push_back(place[static_cast<size_t>(edge)]);
    task.after = std::move(after);
    result.tasks.push_back(std::move(task));
  }
  return result;
}

std::vector<int> identity_order(const Program& program) {
  std::vector<int> order;
  for (int i = 0; i < static_cast<int>(program.tasks.size()); ++i) order.push_back(i);
  return order;
}

// Tasks i < j change places on their lane, neighbours there or in their group. In the list the
// later one moves up, or the earlier one down, if no edge then points forward: what is left is the
// order of the lane alone.
Program exchanged(const Program& program, int i, int j) {
  const std::vector<Task>& tasks = program.tasks;
  const auto depends = [&](int task, int first, int last) {
    const std::vector<int>& after = tasks[static_cast<size_t>(task)].after;
    return std::any_of(after.begin(), after.end(),
                       [&](int edge) { return edge >= first && edge <= last; });
  };
  std::vector<int> order = identity_order(program);
  const auto at = [&](int index) { return order.begin() + index; };
  bool holds_between = false;
  for (int between = i + 1; between <= j; ++between) holds_between |= depends(between, i, i);
  if (!depends(j, i, j - 1))
    std::rotate(at(i), at(j), at(j) + 1);
  else if (!holds_between)
    std::rotate(at(i), at(i) + 1, at(j) + 1);
  else
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(j)]);
  return in_order(program, order);
}

// Collectives of one communicator: of an expert group, or of one set of positions (a bucket's
// copies on this position alone included) on one lane.
std::string group_of(const Task& task) {
  const bool exchange = task.kind == Kind::dispatch || task.kind == Kind::combine;
  const bool shared = task.kind == Kind::commit || task.kind == Kind::gather_weights ||
                      task.kind == Kind::reduce_gradients;
  if (!exchange && !shared) return "";
  std::string group = name_of(task.lane);
  for (const int position : task.positions) group += fmt::format(" {}", position);
  return group;
}

}  // namespace

const char* name_of(Mutation mutation) {
  static constexpr const char* kNames[] = {"drop",
                                           "double",
                                           "retarget",
                                           "resize",
                                           "swap neighbours",
                                           "drop edge",
                                           "reorder collectives"};
  return kNames[static_cast<int>(mutation)];
}

std::vector<Change> all_changes(const StepShape& shape, std::span<const Program> programs) {
  std::vector<Change> changes;
  const auto num_positions = static_cast<int>(programs.size());
  for (int p = 0; p < num_positions; ++p) {
    const Program& program = programs[static_cast<size_t>(p)];
    std::map<Lane, int> last_of_lane;
    std::map<std::string, std::vector<int>> groups;
    for (int i = 0; i < static_cast<int>(program.tasks.size()); ++i) {
      const Task& task = program.tasks[static_cast<size_t>(i)];
      changes.push_back({Mutation::drop, p, i});
      changes.push_back({Mutation::repeat, p, i});
      const auto num_retargets =
          static_cast<int>(retargets(shape, program, num_positions, task).size());
      for (int v = 0; v < num_retargets; ++v) changes.push_back({Mutation::retarget, p, i, 0, v});
      const auto num_resizes = static_cast<int>(resizes(task).size());
      for (int v = 0; v < num_resizes; ++v) changes.push_back({Mutation::resize, p, i, 0, v});
      for (int edge = 0; edge < static_cast<int>(task.after.size()); ++edge)
        changes.push_back({Mutation::drop_edge, p, i, edge});
      const auto [last, is_first] = last_of_lane.try_emplace(task.lane, i);
      if (!is_first)
        changes.push_back({Mutation::swap_neighbours, p, std::exchange(last->second, i), i});
      if (const std::string group = group_of(task); !group.empty()) {
        for (const int before : groups[group])
          changes.push_back({Mutation::reorder_collectives, p, before, i});
        groups[group].push_back(i);
      }
    }
  }
  return changes;
}

Program changed(const StepShape& shape, std::span<const Program> programs, const Change& change) {
  Program program = programs[static_cast<size_t>(change.position)];
  Task& task = program.tasks[static_cast<size_t>(change.task)];
  const auto put = [&](std::vector<Task> variants) {
    task = variants[static_cast<size_t>(change.variant)];
  };
  std::vector<int> order;
  switch (change.mutation) {
    case Mutation::drop:
      order = identity_order(program);
      order.erase(order.begin() + change.task);
      return in_order(program, order);
    case Mutation::repeat:
      order = identity_order(program);
      order.insert(order.begin() + change.task, change.task);
      return in_order(program, order);
    case Mutation::retarget:
      put(retargets(shape, program, static_cast<int>(programs.size()), task));
      break;
    case Mutation::resize:
      put(resizes(task));
      break;
    case Mutation::drop_edge:
      task.after.erase(task.after.begin() + change.other);
      break;
    case Mutation::swap_neighbours:
    case Mutation::reorder_collectives:
      return exchanged(program, change.task, change.other);
  }
  return program;
}

std::string to_string(const Change& change, std::span<const Program> programs) {
  std::string text =
      fmt::format("{}: [position {}] {} (task {})", name_of(change.mutation), change.position,
                  to_string(task_of(programs, change.position, change.task)), change.task);
  if (change.mutation == Mutation::swap_neighbours ||
      change.mutation == Mutation::reorder_collectives)
    text += fmt::format(" and {} (task {})",
                        to_string(task_of(programs, change.position, change.other)), change.other);
  if (change.mutation == Mutation::drop_edge)
    text += fmt::format(
        " after task {}",
        task_of(programs, change.position, change.task).after[static_cast<size_t>(change.other)]);
  if (change.mutation == Mutation::retarget || change.mutation == Mutation::resize)
    text += fmt::format(", variant {}", change.variant);
  return text;
}

}  // namespace strait
