#include "parallel/pipeline/dualpipe_steps.h"

#include <deque>

#include "core/errors.h"

namespace strait {
namespace {

// Writes slots by side; each side's forwards and backwards count up its micro-batches.
class Writer {
 public:
  explicit Writer(const DualPipePlace& place) : sides_(place.sides) {}

  void forward(int side) { slots_.push_back(next(Work::forward, side, forwards_[side]++)); }
  void backward(int side) { slots_.push_back(next(Work::backward, side, backwards_[side]++)); }
  void input_gradient(int side) {
    slots_.push_back(next(Work::input_gradient, side, backwards_[side]++));
    put_off_.push_back(slots_.back());
  }
  void weight_gradient() {
    Slot slot = put_off_.front();
    put_off_.pop_front();
    slot.work = Work::weight_gradient;
    slots_.push_back(slot);
  }
  void pair(int forward_side, int backward_side) {
    forward(forward_side);
    slots_.back().paired = true;
    backward(backward_side);
  }
  std::vector<Slot> finish() {
    STRAIT_CHECK(put_off_.empty(), "weight gradients left over");
    return std::move(slots_);
  }

 private:
  Slot next(Work work, int side, int count) const {
    return {work, sides_[side].first_microbatch + count, sides_[side].chunk};
  }

  const DualPipeSide* sides_;
  int forwards_[2] = {0, 0}, backwards_[2] = {0, 0};
  std::deque<Slot> put_off_;
  std::vector<Slot> slots_;
};

}  // namespace

std::vector<Slot> dualpipe_steps(const DualPipePlace& place) {
  const int to_turn = place.distance, rank = place.from_entry;
  const int main_loops = place.num_microbatches - 2 * to_turn - rank - 1;
  Writer write(place);
  // 1, 2: the micro-batches of side 0 come first, until those of side 1 have come around.
  for (int i = 0; i < 2 * to_turn; ++i) write.forward(0);
  for (int i = 0; i <= rank; ++i) {
    write.forward(0);
    write.forward(1);
  }
  // 3: the first gradients arrive one by one; weight gradients fill the gaps.
  for (int i = 0; i < to_turn; ++i) {
    write.input_gradient(1);
    write.weight_gradient();
    write.forward(1);
  }
  // 4: the main part, all in pairs. At the turn the very first two run apart: the positions beside
  // it get their inputs earlier.
  for (int i = 0; i < main_loops; ++i) {
    if (i == 0 && to_turn == 0) {
      write.forward(0);
      write.backward(1);
    } else {
      write.pair(0, 1);
    }
    write.pair(1, 0);
  }
  // 5: side 0 has no forwards left.
  for (int i = 0; i < to_turn; ++i) {
    write.backward(1);
    write.pair(1, 0);
  }
  // 6: backwards only; from the middle of this step on, weight gradients are put off.
  const int steps = rank + 1;
  for (int i = 0; i < 2 * steps; ++i) {
    const int side = 1 - i % 2;
    if (i < steps)
      write.backward(side);
    else
      write.input_gradient(side);
  }
  // 7, 8: weight gradients fill the gaps, then the rest of them.
  for (int i = 0; i < to_turn; ++i) {
    write.weight_gradient();
    write.input_gradient(0);
  }
  for (int i = 0; i < steps; ++i) write.weight_gradient();
  return write.finish();
}

}  // namespace strait
