#include "launch/plan/step_memory.h"

#include <algorithm>

namespace strait {
namespace {

int64_t& of(MemoryUse& use, Purpose purpose) { return use.bytes[static_cast<size_t>(purpose)]; }

void add(MemoryUse& use, const MemoryUse& more) {
  for (size_t i = 0; i < use.bytes.size(); ++i) use.bytes[i] += more.bytes[i];
}

MemoryUse part_of(MemoryUse use, int num_parts) {
  for (int64_t& bytes : use.bytes) bytes /= num_parts;
  return use;
}

// One phase's change of memory, and the most it holds meanwhile.
struct Change {
  MemoryUse left, peak;
};

void then(Change& change, const MemoryUse& left, const MemoryUse& peak) {
  MemoryUse reached = change.left;
  add(reached, peak);
  if (reached.total() > change.peak.total()) change.peak = reached;
  add(change.left, left);
}

// Rows between stages, FP32, belong to the layer that ends on one position and to what begins on
// the next: the buffer that the measured run passed on is freed here and allocated there.
void cross_border(const ModelWork& work, const Task& task, Change& change) {
  for (const StageLayers& stage : work.stages) {
    const bool first =
        !stage.embeds && (stage.first_layer == work.num_hidden_layers
                              ? task.kind == Kind::head && task.layer + 1 == stage.first_layer
                              : task.kind == Kind::attention && task.layer == stage.first_layer);
    const bool last = !stage.has_head && task.kind != Kind::head &&
                      task.layer + 1 == stage.end_layer && work.ends_layer(task) == task.layer;
    if (!first && !last) continue;
    const int64_t bytes = 4 * work.tokens * work.hidden_size;
    const bool arrives = first == (task.pass == Pass::forward);
    MemoryUse buffer;
    of(buffer, Purpose::activations) = arrives ? bytes : -bytes;
    if (!arrives) {
      then(change, buffer, {});
      continue;
    }
    Change late = std::move(change);
    change = {};
    then(change, buffer, buffer);
    then(change, late.left, late.peak);
  }
}

Change change_of(const ModelWork& work, const Task& task) {
  Change change;
  const PhaseWork& phase = work.phase(task.kind, task.layer, task.pass);
  const auto run = [&] {
    const int parts = task.kind == Kind::experts ? task.num_parts : 1;
    then(change, part_of(phase.left, parts), part_of(phase.peak, parts));
  };
  const int ended = work.ends_layer(task);
  if (ended < 0) {
    run();
  } else {
    const PhaseWork& end = work.phase(Kind::combine, ended, task.pass);
    // A layer's sum comes before the task of the next layer, and after one of its own; its gradient
    // the other way round.
    const bool of_next = ended != task.layer || task.kind == Kind::head;
    const bool end_first = of_next == (task.pass == Pass::forward);
    if (end_first) then(change, end.left, end.peak);
    run();
    if (!end_first) then(change, end.left, end.peak);
  }
  if (task.pass != Pass::weight_gradient) cross_border(work, task, change);
  return change;
}

bool is_of_layer(const Task& task) { return task.lane == Lane::compute && task.microbatch >= 0; }

}  // namespace

MemoryUse resident_memory(const ModelWork& work, int position) {
  MemoryUse use;
  for (const BucketWork& bucket : work.buckets.at(static_cast<size_t>(position))) {
    of(use, Purpose::weights) += bucket.weight_bytes;
    of(use, Purpose::packed_weights) += bucket.packed_bytes;
    of(use, Purpose::gradients) += 4 * bucket.numel;
    of(use, Purpose::optimizer) += bucket.numel * (4 + 2 * work.moments_bytes) / bucket.replicas;
    // Weights that are not kept as they are gathered: one bucket at a time.
    const int64_t gathered = bucket.numel * static_cast<int64_t>(size_of(bucket.dtype));
    int64_t& buffer = of(use, Purpose::communication);
    buffer = std::max(buffer, gathered - bucket.weight_bytes);
  }
  return use;
}

MemoryUse peak_memory(const ModelWork& work, const Program& program) {
  MemoryUse live = resident_memory(work, program.position), most = live;
  for (const Task& task : program.tasks) {
    if (!is_of_layer(task)) continue;
    const Change change = change_of(work, task);
    MemoryUse reached = live;
    add(reached, change.peak);
    if (reached.total() > most.total()) most = reached;
    add(live, change.left);
  }
  return most;
}

KeptBytes kept_bytes(const ModelWork& work, const Task& task) {
  if (!is_of_layer(task)) return {};
  Task weights = task, forward = task;
  weights.pass = Pass::weight_gradient;
  forward.pass = Pass::forward;
  const int64_t until_weights = -change_of(work, weights).left.total();
  return {.until_input_gradient = change_of(work, forward).left.total() - until_weights,
          .until_weight_gradient = until_weights};
}

}  // namespace strait
