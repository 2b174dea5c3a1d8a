#include "parallel/program/build.h"

namespace strait {
namespace {

class Builder {
 public:
  explicit Builder(const ProgramInput& input)
      : in_(input), num_layers_(static_cast<int>(input.layer_is_moe.size())) {}

  Program finish(int num_microbatches) {
    program_.num_microbatches = num_microbatches;
    return std::move(program_);
  }

  void boundary(bool commits) {
    std::vector<int> gates;
    if (commits) {
      add({.kind = Kind::gradient_norm});
      gates = {add({.kind = Kind::commit, .lane = Lane::shard, .after = {last()}})};
    }
    const int num_buckets = static_cast<int>(in_.bucket_layer.size());
    std::vector<int> gathers;
    for (int bucket = 0; bucket < num_buckets; ++bucket) {
      std::vector<int> after;
      if (commits) after = {add({.kind = Kind::update, .bucket = bucket, .after = gates})};
      gathers.push_back(
          add({.kind = Kind::gather_weights, .lane = Lane::shard, .bucket = bucket, .after = after}));
    }
    for (int bucket = 0; bucket < num_buckets; ++bucket)
      add({.kind = Kind::pack_weights,
           .bucket = bucket,
           .after = {gathers[static_cast<size_t>(bucket)]}});
  }

  void forward(int microbatch) {
    compute(Kind::embed, Pass::forward, microbatch, -1, -1);
    int arrived = -1;  // the exchange the next compute task waits for
    for (int layer = 0; layer < num_layers_; ++layer) {
      if (layer == in_.num_hidden_layers) arrived = head_forward(microbatch, in_.num_hidden_layers - 1, arrived);
      arrived = layer_forward(microbatch, layer, arrived);
    }
    head_forward(microbatch, num_layers_ - 1, arrived);
  }

  void backward(int microbatch, bool reduces) {
    int arrived = -1;
    for (int layer = num_layers_ - 1; layer >= 0; --layer) {
      if (layer == num_layers_ - 1 || layer == in_.num_hidden_layers - 1)
        arrived = compute(Kind::head, Pass::input_gradient, microbatch, layer, -1);
      arrived = layer_backward(microbatch, layer);
      if (reduces) reduce_buckets(layer);
    }
    compute(Kind::embed, Pass::input_gradient, microbatch, -1, arrived);
    if (reduces) reduce_buckets(-1);
  }

 private:
  int last() const { return static_cast<int>(program_.tasks.size()) - 1; }
  int add(Task task) {
    program_.tasks.push_back(std::move(task));
    return last();
  }
  // A compute task; `arrived` is the exchange it waits for, or -1.
  int compute(Kind kind, Pass pass, int microbatch, int layer, int arrived) {
    Task task{.kind = kind, .pass = pass, .microbatch = microbatch, .layer = layer};
    if (arrived >= 0) task.after = {arrived};
    const int index = add(std::move(task));
    if (pass != Pass::weight_gradient) producer_ = index;
    return index;
  }
  // An exchange of what the last forward or input-gradient task packed; -1 when nothing has to be sent.
  int exchange(Kind kind, Pass pass, int microbatch, int layer) {
    if (!in_.exchanges) return -1;
    return add({.kind = kind,
                .pass = pass,
                .lane = in_.exchange_lane,
                .microbatch = microbatch,
                .layer = layer,
                .capacity_rows = in_.exchange_capacity_rows,
                .after = {producer_}});
  }
  int head_forward(int microbatch, int layer, int arrived) {
    compute(Kind::head, Pass::forward, microbatch, layer, arrived);
    return -1;
  }
  int layer_forward(int microbatch, int layer, int arrived) {
    compute(Kind::attention, Pass::forward, microbatch, layer, arrived);
    if (!in_.layer_is_moe[static_cast<size_t>(layer)]) {
      compute(Kind::mlp, Pass::forward, microbatch, layer, -1);
      return -1;
    }
    const int dispatched = exchange(Kind::dispatch, Pass::forward, microbatch, layer);
    if (in_.has_shared_experts) compute(Kind::shared, Pass::forward, microbatch, layer, -1);
    compute(Kind::experts, Pass::forward, microbatch, layer, dispatched);
    return exchange(Kind::combine, Pass::forward, microbatch, layer);
  }
  int layer_backward(int microbatch, int layer) {
    if (!in_.layer_is_moe[static_cast<size_t>(layer)]) {
      compute(Kind::mlp, Pass::input_gradient, microbatch, layer, -1);
      compute(Kind::mlp, Pass::weight_gradient, microbatch, layer, -1);
      compute(Kind::attention, Pass::input_gradient, microbatch, layer, -1);
    } else {
      const int returned = exchange(Kind::combine, Pass::input_gradient, microbatch, layer);
      if (in_.has_shared_experts) compute(Kind::shared, Pass::input_gradient, microbatch, layer, -1);
      compute(Kind::experts, Pass::input_gradient, microbatch, layer, returned);
      const int gathered = exchange(Kind::dispatch, Pass::input_gradient, microbatch, layer);
      compute(Kind::experts, Pass::weight_gradient, microbatch, layer, -1);
      if (in_.has_shared_experts) compute(Kind::shared, Pass::weight_gradient, microbatch, layer, -1);
      compute(Kind::attention, Pass::input_gradient, microbatch, layer, gathered);
    }
    compute(Kind::attention, Pass::weight_gradient, microbatch, layer, -1);
    return -1;
  }
  void reduce_buckets(int layer) {
    for (size_t bucket = 0; bucket < in_.bucket_layer.size(); ++bucket) {
      if (in_.bucket_layer[bucket] != layer) continue;
      const int compute_task = last_compute();
      add({.kind = Kind::reduce_gradients,
           .lane = Lane::shard,
           .bucket = static_cast<int>(bucket),
           .after = {compute_task}});
    }
  }
  int last_compute() const {
    int index = last();
    while (program_.tasks[static_cast<size_t>(index)].lane != Lane::compute) --index;
    return index;
  }

  const ProgramInput& in_;
  const int num_layers_;
  Program program_;
  int producer_ = -1;
};

}  // namespace

Program build_training_program(const ProgramInput& input, int num_microbatches, bool with_boundary) {
  Builder builder(input);
  if (with_boundary) builder.boundary(true);
  for (int microbatch = 0; microbatch < num_microbatches; ++microbatch) {
    builder.forward(microbatch);
    builder.backward(microbatch, microbatch == num_microbatches - 1);
  }
  return builder.finish(num_microbatches);
}

Program build_settle_program(const ProgramInput& input) {
  Builder builder(input);
  builder.boundary(true);
  return builder.finish(0);
}

Program build_load_program(const ProgramInput& input) {
  Builder builder(input);
  builder.boundary(false);
  return builder.finish(0);
}

Program build_evaluation_program(const ProgramInput& input) {
  Builder builder(input);
  builder.forward(0);
  return builder.finish(1);
}

}  // namespace strait
