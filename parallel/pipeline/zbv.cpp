#include "parallel/pipeline/schedule_rules.h"
#include "parallel/pipeline/schedules.h"

namespace strait {
namespace {

// Each kind of work of each chunk counts up its micro-batches; past the last there is nothing to
// do.
class Writer {
 public:
  explicit Writer(int num_microbatches) : num_microbatches_(num_microbatches) {}

  void forward(int chunk) { next(Work::forward, chunk); }
  void input_gradient(int chunk) { next(Work::input_gradient, chunk); }
  void weight_gradient(int chunk) { next(Work::weight_gradient, chunk); }
  void both_gradients(int chunk) {
    input_gradient(chunk);
    weight_gradient(chunk);
  }
  bool forwards_left() const { return done(Work::forward, 1) < num_microbatches_; }
  bool weight_gradients_left(int chunk) const {
    return done(Work::weight_gradient, chunk) < num_microbatches_;
  }
  std::vector<Slot> finish() { return std::move(slots_); }

 private:
  int done(Work work, int chunk) const { return done_[static_cast<int>(work)][chunk]; }
  void next(Work work, int chunk) {
    int& done = done_[static_cast<int>(work)][chunk];
    if (done < num_microbatches_) slots_.push_back({work, done++, chunk});
  }

  int num_microbatches_;
  int done_[4][2] = {};
  std::vector<Slot> slots_;
};

// Chunk 0 runs down the V, chunk 1 up again. `to_tip`: positions from this one to the V's tip,
// itself counted.
std::vector<Slot> slots_of(int position, int to_tip, int num_microbatches) {
  Writer write(num_microbatches);
  // Forwards until the first micro-batch has been around the tip, then from both sides in turn.
  for (int i = 0; i < 2 * to_tip - 1; ++i) write.forward(0);
  for (int i = 0; i < position; ++i) {
    write.forward(1);
    write.forward(0);
  }
  // The gradients of chunk 1 go down before those of chunk 0 arrive.
  for (int i = 0; i < to_tip; ++i) {
    write.forward(1);
    write.both_gradients(1);
  }
  while (write.forwards_left()) {
    write.forward(0);
    write.both_gradients(0);
    write.forward(1);
    write.both_gradients(1);
  }
  // Input gradients first, so that no position waits; the weight gradients put off fill the end.
  for (int i = 0; i < position; ++i) {
    write.input_gradient(0);
    write.input_gradient(1);
  }
  for (int i = 0; i < to_tip; ++i) write.both_gradients(0);
  for (int chunk : {1, 0})
    while (write.weight_gradients_left(chunk)) write.weight_gradient(chunk);
  return write.finish();
}

}  // namespace

void require_zbv(const ScheduleOptions& options) { require_counts(options, "zbv", 2); }

Schedule schedule_zbv(const ScheduleOptions& options) {
  require_zbv(options);
  Schedule schedule = empty_schedule("zbv", options, 2, stage_in_v);
  for (int position = 0; position < options.positions; ++position)
    schedule.slots[position] =
        slots_of(position, options.positions - position, options.microbatches);
  return schedule;
}

}  // namespace strait
