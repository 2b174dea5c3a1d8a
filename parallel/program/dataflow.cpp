#include "parallel/program/dataflow.h"

#include <algorithm>
#include <tuple>

namespace strait {
namespace {

// No two tasks of a program have the same key. A step has fewer than 2^20 micro-batches and layers.
uint64_t key_of(Kind kind, Pass pass, int microbatch, int layer_or_bucket, int part) {
  return static_cast<uint64_t>(kind) | static_cast<uint64_t>(pass) << 5 |
         static_cast<uint64_t>(microbatch + 1) << 8 |
         static_cast<uint64_t>(layer_or_bucket + 1) << 28 | static_cast<uint64_t>(part) << 48;
}

bool brings(Kind kind) { return kind == Kind::receive || kind == Kind::swap; }

}  // namespace

Dataflow::Dataflow(const StepShape& shape, const Program& program)
    : shape_(shape), program_(program) {
  tasks_.reserve(program.tasks.size());
  for (size_t i = 0; i < program.tasks.size(); ++i) {
    const Task& task = program.tasks[i];
    const auto index = static_cast<int>(i);
    if (brings(task.kind)) {
      const Message& m = task.receive;
      received_[key_of(Kind::receive, m.pass, m.microbatch, m.layer, 0)] = index;
      continue;
    }
    tasks_[key_of(task.kind, task.pass, task.microbatch,
                  task.bucket >= 0 ? task.bucket : task.layer, task.part)] = index;
    const bool adds = task.pass == Pass::weight_gradient ||
                      (task.pass == Pass::input_gradient &&
                       (task.kind == Kind::head || task.kind == Kind::embed));
    if (adds) last_contribution_[task.layer] = index;
  }
}

int Dataflow::find(Kind kind, Pass pass, int microbatch, int layer_or_bucket, int part) const {
  const auto found = tasks_.find(key_of(kind, pass, microbatch, layer_or_bucket, part));
  return found == tasks_.end() ? -1 : found->second;
}

int Dataflow::find_received(Pass pass, int microbatch, int layer) const {
  const auto found = received_.find(key_of(Kind::receive, pass, microbatch, layer, 0));
  return found == received_.end() ? -1 : found->second;
}

std::vector<int> Dataflow::all_parts(Kind kind, Pass pass, const Task& of) const {
  std::vector<int> tasks;
  for (int part = 0; part < shape_.waves; ++part)
    tasks.push_back(find(kind, pass, of.microbatch, of.layer, part));
  return tasks;
}

std::vector<int> Dataflow::hidden(int microbatch, int layer) const {
  if (layer < 0) return {find(Kind::embed, Pass::forward, microbatch, -1)};
  if (find(Kind::attention, Pass::forward, microbatch, layer) < 0)
    return {find_received(Pass::forward, microbatch, layer + 1)};
  const Task of{.kind = Kind::attention, .microbatch = microbatch, .layer = layer};
  std::vector<int> tasks = all_parts(Kind::combine, Pass::forward, of);
  for (const int task : all_parts(Kind::experts, Pass::forward, of)) tasks.push_back(task);
  tasks.push_back(find(Kind::shared, Pass::forward, microbatch, layer));
  tasks.push_back(find(Kind::mlp, Pass::forward, microbatch, layer));
  return tasks;
}

int Dataflow::output_gradient(int microbatch, int layer) const {
  if (layer >= shape_.num_hidden_layers - 1) {
    const int head = find(Kind::head, Pass::input_gradient, microbatch, layer);
    if (head >= 0) return head;
  }
  const int attention = find(Kind::attention, Pass::input_gradient, microbatch, layer + 1);
  return attention >= 0 ? attention : find_received(Pass::input_gradient, microbatch, layer + 1);
}

int Dataflow::last_contribution(const BucketShape& bucket) const {
  int last = -1;
  for (const int layer : bucket.layers) {
    const auto found = last_contribution_.find(layer);
    if (found != last_contribution_.end()) last = std::max(last, found->second);
  }
  return last;
}

std::vector<int> Dataflow::forward_needs(const Task& task) const {
  const auto& [kind, m, l] = std::tie(task.kind, task.microbatch, task.layer);
  switch (kind) {
    // The MTP module's layer reads the main head's normed rows, not the layer below.
    case Kind::attention:
      return l < shape_.num_hidden_layers ? hidden(m, l - 1) : std::vector<int>{};
    case Kind::head:
      return hidden(m, l);
    case Kind::dispatch:
      return {find(Kind::attention, Pass::forward, m, l)};
    case Kind::experts:
      return {find(Kind::dispatch, Pass::forward, m, l, task.part)};
    case Kind::combine:
      return {find(Kind::experts, Pass::forward, m, l, task.part)};
    default:
      return {};
  }
}

std::vector<int> Dataflow::backward_needs(const Task& task) const {
  const auto& [kind, m, l] = std::tie(task.kind, task.microbatch, task.layer);
  switch (kind) {
    case Kind::mlp:
    case Kind::shared:
    case Kind::combine:
      return {output_gradient(m, l)};
    case Kind::experts:
      return {output_gradient(m, l), find(Kind::combine, task.pass, m, l, task.part)};
    case Kind::dispatch:
      return {find(Kind::experts, task.pass, m, l, task.part)};
    case Kind::attention:
      return all_parts(Kind::dispatch, task.pass, task);
    // Of a last stage with the MTP module alone: nothing but compute comes between.
    default:
      return {};
  }
}

std::vector<int> Dataflow::transfer_needs(const Task& task) const {
  const int bucket = task.bucket;
  switch (task.kind) {
    case Kind::send:
    case Kind::swap:
      if (task.send.pass == Pass::forward) return hidden(task.send.microbatch, task.send.layer - 1);
      return {output_gradient(task.send.microbatch, task.send.layer - 1)};
    case Kind::commit:
      return {find(Kind::gradient_norm, Pass::forward, -1, -1)};
    case Kind::update:
      return {find(Kind::commit, Pass::forward, -1, -1)};
    case Kind::gather_weights:
      return {find(Kind::update, Pass::forward, -1, bucket)};
    case Kind::pack_weights:
      return {find(Kind::gather_weights, Pass::forward, -1, bucket)};
    case Kind::reduce_gradients:
      return {last_contribution(
          shape_.buckets[static_cast<size_t>(program_.position)][static_cast<size_t>(bucket)])};
    default:
      return {};
  }
}

std::vector<int> Dataflow::needs(int index) const {
  const Task& task = program_.tasks[static_cast<size_t>(index)];
  std::vector<int> tasks;
  const bool of_layer = task.microbatch >= 0 && task.lane != Lane::pipe;
  if (!of_layer) {
    tasks = transfer_needs(task);
  } else if (task.pass == Pass::forward) {
    tasks = forward_needs(task);
  } else if (task.pass == Pass::input_gradient) {
    tasks = backward_needs(task);
  }
  std::erase_if(tasks, [&](int need) {
    return need < 0 || program_.tasks[static_cast<size_t>(need)].lane == task.lane;
  });
  return tasks;
}

}  // namespace strait
