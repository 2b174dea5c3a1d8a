#include "parallel/program/phases.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/errors.h"

namespace strait {
namespace {

using Tasks = std::vector<Task>;

// One layer in one direction. `before` is what its chunk runs between the layer before it and this
// one.
struct LayerPhases {
  Tasks before;
  Tasks attention_forward, mlp_forward;
  Tasks mlp_input, mlp_weight, attention_input, attention_weight;
  bool exchanges = false;
};
struct ChunkPhases {
  std::vector<LayerPhases> layers;
  Tasks after;
};

void append(Tasks& tasks, Tasks more) {
  for (Task& task : more) tasks.push_back(std::move(task));
}

class ChunkWalk {
 public:
  ChunkWalk(const StepShape& shape, const Schedule& schedule, int position, const Slot& slot)
      : shape_(shape),
        slot_(slot),
        mtp_layer_(shape.num_hidden_layers),
        last_hidden_(shape.num_hidden_layers - 1) {
    const Chunk& chunk =
        schedule.chunks[static_cast<size_t>(position)][static_cast<size_t>(slot.chunk)];
    stage_ = shape.stages[static_cast<size_t>(chunk.stage)];
  }

  ChunkPhases forward() const {
    ChunkPhases chunk;
    for (int layer = stage_.first_layer; layer < stage_.end_layer; ++layer) {
      LayerPhases phases;
      phases.exchanges = is_moe(layer);
      if (layer == stage_.first_layer && stage_.embeds)
        phases.before.push_back(task(Kind::embed, Pass::forward, -1));
      if (layer == mtp_layer_)
        phases.before.push_back(task(Kind::head, Pass::forward, last_hidden_));
      phases.attention_forward.push_back(task(Kind::attention, Pass::forward, layer));
      phases.mlp_forward = mlp(Pass::forward, layer);
      chunk.layers.push_back(std::move(phases));
    }
    if (stage_.has_head)
      chunk.after.push_back(task(Kind::head, Pass::forward, stage_.end_layer - 1));
    return chunk;
  }

  ChunkPhases backward() const {
    ChunkPhases chunk;
    for (int layer = stage_.end_layer - 1; layer >= stage_.first_layer; --layer) {
      LayerPhases phases;
      phases.exchanges = is_moe(layer);
      if (stage_.has_head && layer >= last_hidden_)
        phases.before.push_back(task(Kind::head, Pass::input_gradient, layer));
      phases.mlp_input = mlp(Pass::input_gradient, layer);
      phases.attention_input.push_back(task(Kind::attention, Pass::input_gradient, layer));
      if (slot_.work == Work::backward) {
        phases.mlp_weight = mlp(Pass::weight_gradient, layer);
        phases.attention_weight.push_back(task(Kind::attention, Pass::weight_gradient, layer));
      }
      chunk.layers.push_back(std::move(phases));
    }
    // A last stage that holds the MTP module alone has the main head, but not the layer below it.
    if (stage_.has_head && stage_.first_layer == mtp_layer_)
      chunk.after.push_back(task(Kind::head, Pass::input_gradient, last_hidden_));
    if (stage_.embeds) chunk.after.push_back(task(Kind::embed, Pass::input_gradient, -1));
    return chunk;
  }

  Tasks weight_gradients() const {
    Tasks tasks;
    for (int layer = stage_.end_layer - 1; layer >= stage_.first_layer; --layer) {
      append(tasks, mlp(Pass::weight_gradient, layer));
      tasks.push_back(task(Kind::attention, Pass::weight_gradient, layer));
    }
    return tasks;
  }

 private:
  bool is_moe(int layer) const { return shape_.layer_is_moe[static_cast<size_t>(layer)]; }
  Task task(Kind kind, Pass pass, int layer) const {
    return {.kind = kind,
            .pass = pass,
            .microbatch = slot_.microbatch,
            .layer = layer,
            .chunk = slot_.chunk};
  }
  Tasks mlp(Pass pass, int layer) const {
    if (!is_moe(layer)) return {task(Kind::mlp, pass, layer)};
    Tasks tasks;
    if (shape_.has_shared_experts) tasks.push_back(task(Kind::shared, pass, layer));
    tasks.push_back(task(Kind::experts, pass, layer));
    tasks.back().capacity_rows = shape_.exchange_capacity_rows;
    if (pass == Pass::weight_gradient) std::reverse(tasks.begin(), tasks.end());
    return tasks;
  }

  const StepShape& shape_;
  const Slot slot_;
  const int mtp_layer_, last_hidden_;
  StageLayers stage_;
};

void run_forward(Tasks& tasks, LayerPhases layer) {
  append(tasks, std::move(layer.before));
  append(tasks, std::move(layer.attention_forward));
  append(tasks, std::move(layer.mlp_forward));
}

void run_backward(Tasks& tasks, LayerPhases layer) {
  append(tasks, std::move(layer.before));
  append(tasks, std::move(layer.mlp_input));
  append(tasks, std::move(layer.mlp_weight));
  append(tasks, std::move(layer.attention_input));
  append(tasks, std::move(layer.attention_weight));
}

void run_zipped(Tasks& tasks, LayerPhases forward, LayerPhases backward) {
  append(tasks, std::move(backward.before));
  append(tasks, std::move(forward.before));
  append(tasks, std::move(forward.attention_forward));
  append(tasks, std::move(backward.mlp_input));
  append(tasks, std::move(backward.mlp_weight));
  append(tasks, std::move(forward.mlp_forward));
  append(tasks, std::move(backward.attention_input));
  append(tasks, std::move(backward.attention_weight));
}

// How many layers of the longer chunk run alone before the zipped ones: the number that leaves the
// fewest with exchanges alone, before or after; the fewest where several are equal.
size_t lone_before(const std::vector<LayerPhases>& longer, size_t zipped) {
  const size_t extra = longer.size() - zipped;
  const auto has_exchanges = [](const LayerPhases& layer) { return layer.exchanges; };
  size_t best = 0;
  int64_t fewest = -1;
  for (size_t before = 0; before <= extra; ++before) {
    const auto first = longer.begin() + static_cast<int64_t>(before);
    const auto last = first + static_cast<int64_t>(zipped);
    const int64_t alone = std::count_if(longer.begin(), first, has_exchanges) +
                          std::count_if(last, longer.end(), has_exchanges);
    if (fewest >= 0 && alone >= fewest) continue;
    fewest = alone;
    best = before;
  }
  return best;
}

Tasks zip(ChunkPhases forward, ChunkPhases backward) {
  Tasks tasks;
  auto& f = forward.layers;
  auto& b = backward.layers;
  const size_t zipped = std::min(f.size(), b.size());
  const size_t f_before = lone_before(f, zipped), b_before = lone_before(b, zipped);
  // A head first: the gradient it makes is on its way while other layers run.
  append(tasks, std::exchange(b.front().before, {}));
  for (size_t i = 0; i < b_before; ++i) run_backward(tasks, std::move(b[i]));
  for (size_t i = 0; i < f_before; ++i) run_forward(tasks, std::move(f[i]));
  for (size_t i = 0; i < zipped; ++i)
    run_zipped(tasks, std::move(f[f_before + i]), std::move(b[b_before + i]));
  for (size_t i = f_before + zipped; i < f.size(); ++i) run_forward(tasks, std::move(f[i]));
  for (size_t i = b_before + zipped; i < b.size(); ++i) run_backward(tasks, std::move(b[i]));
  append(tasks, std::move(forward.after));
  append(tasks, std::move(backward.after));
  return tasks;
}

Tasks lone(const ChunkWalk& walk, Work work) {
  if (work == Work::weight_gradient) return walk.weight_gradients();
  Tasks tasks;
  ChunkPhases chunk = work == Work::forward ? walk.forward() : walk.backward();
  for (LayerPhases& layer : chunk.layers)
    work == Work::forward ? run_forward(tasks, std::move(layer))
                          : run_backward(tasks, std::move(layer));
  append(tasks, std::move(chunk.after));
  return tasks;
}

// Gradients and losses are sums over micro-batches; they have the same bits under every schedule
// only when their terms come in one order.
void require_fifo(const Schedule& schedule, int position) {
  std::map<std::pair<int, Pass>, int> latest;  // [chunk, pass]: micro-batch
  const auto check = [&](const Slot& slot, Pass pass, const char* what) {
    const auto [found, is_new] = latest.try_emplace({slot.chunk, pass}, slot.microbatch);
    if (!is_new && slot.microbatch < found->second)
      throw RecipeError(fmt::format(
          "schedule {}: position {}, {}: {} of micro-batch {} comes after that of {}; a chunk must "
          "take its micro-batches in order, also in the weight gradients it puts off",
          schedule.name, position, to_string(slot), what, slot.microbatch, found->second));
    found->second = slot.microbatch;
  };
  for (const Slot& slot : schedule.slots[static_cast<size_t>(position)]) {
    if (slot.work == Work::forward) check(slot, Pass::forward, "the forward");
    if (slot.work == Work::backward || slot.work == Work::input_gradient)
      check(slot, Pass::input_gradient, "the input gradient");
    if (slot.work == Work::backward || slot.work == Work::weight_gradient)
      check(slot, Pass::weight_gradient, "the weight gradient");
  }
}

}  // namespace

std::vector<Program> lay_out_phases(const StepShape& shape, const Schedule& schedule) {
  std::vector<Program> programs;
  for (int position = 0; position < schedule.num_positions(); ++position) {
    require_fifo(schedule, position);
    Program program{.num_microbatches = schedule.num_microbatches, .position = position};
    const std::vector<Slot>& slots = schedule.slots[static_cast<size_t>(position)];
    int num_pairs = 0;
    for (size_t i = 0; i < slots.size(); ++i) {
      const ChunkWalk walk(shape, schedule, position, slots[i]);
      if (!slots[i].paired) {
        append(program.tasks, lone(walk, slots[i].work));
        continue;
      }
      const ChunkWalk second(shape, schedule, position, slots[++i]);
      Tasks pair = zip(walk.forward(), second.backward());
      for (Task& task : pair) task.pair = num_pairs;
      append(program.tasks, std::move(pair));
      ++num_pairs;
    }
    programs.push_back(std::move(program));
  }
  return programs;
}

}  // namespace strait
