// parallel/program/passes/exchanges.cpp: dispatch and combine of every MoE layer, forward and
// backward.
//
// An exchange stands in its lane where what it sends is ready: behind the task that makes it. In a
// pair that alone gives the published order, combine.I, dispatch.F, dispatch.I, combine.F; see
// phases.h. When the gradient of a chunk's output comes from elsewhere, its first combine.I stands
// before everything else of its slot, or of its pair.
#include "parallel/program/dataflow.h"
#include "parallel/program/passes/passes.h"

namespace strait {
namespace {

bool same_slot(const Task& a, const Task& b) {
  if (a.pair >= 0 || b.pair >= 0) return a.pair == b.pair;
  return a.microbatch == b.microbatch && a.chunk == b.chunk &&
         (a.pass == Pass::forward) == (b.pass == Pass::forward);
}

class ExchangePlaces {
 public:
  ExchangePlaces(const StepShape& shape, const Program& program)
      : shape_(shape),
        program_(program),
        dataflow_(shape, program),
        before_(program.tasks.size() + 1) {
    for (size_t i = 0; i < program.tasks.size(); ++i) place(i);
  }

  // The exchanges listed directly before task i.
  std::vector<Task>& before(size_t i) { return before_[i]; }

 private:
  void place(size_t i) {
    const Task& task = program_.tasks[i];
    const bool is_moe = task.layer >= 0 && shape_.layer_is_moe[static_cast<size_t>(task.layer)];
    if (!is_moe || task.pass == Pass::weight_gradient) return;
    if (task.kind == Kind::attention && task.pass == Pass::forward)
      add_all_parts(Kind::dispatch, task, i + 1);
    if (task.kind != Kind::experts) return;
    add(task.pass == Pass::forward ? Kind::combine : Kind::dispatch, task, task.part, i + 1);
    if (task.pass == Pass::input_gradient && task.part == 0)
      add_all_parts(Kind::combine, task, gradient_ready(i));
  }

  // Where the gradient of the output of task i's layer is ready. The weight gradients behind it
  // make no difference on the exchange lane; listed after them a layer's tasks stay together.
  size_t gradient_ready(size_t i) const {
    const Task& task = program_.tasks[i];
    const int made = dataflow_.output_gradient(task.microbatch, task.layer);
    if (made >= 0 && same_slot(program_.tasks[static_cast<size_t>(made)], task)) {
      auto place = static_cast<size_t>(made) + 1;
      const Task& maker = program_.tasks[static_cast<size_t>(made)];
      const Task& next = program_.tasks[place];
      const bool own_weights = next.kind == maker.kind && next.pass == Pass::weight_gradient &&
                               next.layer == maker.layer && next.microbatch == maker.microbatch;
      return own_weights ? place + 1 : place;
    }
    while (i > 0 && same_slot(program_.tasks[i - 1], task)) --i;
    return i;
  }

  void add_all_parts(Kind kind, const Task& of, size_t place) {
    for (int part = 0; part < shape_.waves; ++part) add(kind, of, part, place);
  }
  void add(Kind kind, const Task& of, int part, size_t place) {
    before_[place].push_back({.kind = kind,
                              .pass = of.pass,
                              .lane = shape_.exchange_lane,
                              .microbatch = of.microbatch,
                              .layer = of.layer,
                              .part = part,
                              .num_parts = shape_.waves,
                              .chunk = of.chunk,
                              .pair = of.pair,
                              .capacity_rows = shape_.exchange_capacity_rows});
  }

  const StepShape& shape_;
  const Program& program_;
  const Dataflow dataflow_;
  std::vector<std::vector<Task>> before_;
};

}  // namespace

Program add_exchanges(const StepShape& shape, Program program) {
  if (!shape.exchanges) return program;
  ExchangePlaces places(shape, program);
  std::vector<Task> tasks;
  for (size_t i = 0; i <= program.tasks.size(); ++i) {
    for (Task& exchange : places.before(i)) tasks.push_back(std::move(exchange));
    if (i < program.tasks.size()) tasks.push_back(program.tasks[i]);
  }
  program.tasks = std::move(tasks);
  return program;
}

}  // namespace strait
