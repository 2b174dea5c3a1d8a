// parallel/program/step_work.h: what one pipeline position has to do in a step, and what each piece
// of it needs.
//
// A piece of work is what a task does, apart from where it stands in a program: a phase of one
// micro-batch in one layer, one end of a message between stages, or one task of the boundary.
// Derived from the shape and the schedule alone: it knows nothing of how programs are lowered, so
// that it can prove them.
//
// Needs are direct: who must have written what a piece reads, and who adds to the same gradient
// before it. Gradients of one layer's parameters add up in the order of the micro-batches, so that
// delays never change bits; uses of one parameter by several layers (an embedding that the MTP
// module shares) come in any order that the program fixes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"
#include "parallel/program/lower.h"
#include "parallel/program/task.h"

namespace strait {

// `send` and `receive` are the two ends of a message; their pass and layer are the message's.
struct Piece {
  Kind kind = Kind::embed;
  Pass pass = Pass::forward;
  int microbatch = -1, layer = -1, bucket = -1, part = 0;
  friend bool operator==(const Piece&, const Piece&) = default;
};

class StepWork {
 public:
  // REQUIRES: check_schedule(schedule) has passed; `shape` outlives this.
  StepWork(const StepShape& shape, const Schedule& schedule, int position, bool with_boundary);

  // Pieces have numbers below num_numbers(), in a fixed order; not every number is a piece.
  int num_numbers() const { return static_cast<int>(wanted_.size()); }
  bool wanted(int number) const { return wanted_[static_cast<size_t>(number)] != 0; }
  const Piece& piece(int number) const { return pieces_[static_cast<size_t>(number)]; }
  int find(const Piece& piece) const;  // -1: not this position's work
  // How a task that does this piece has to look, apart from `after` and `pair`: for an end of a
  // message, not of a swap.
  Task task_of(int number) const;
  // Appends the numbers of what must have finished before this piece starts, all on this position.
  void needs(int number, std::vector<int>& out) const;

 private:
  struct HeldStage {  // one of the schedule's chunks
    int chunk = 0, copy = 0;
    StageLayers layers;
    int before = -1,
        after = -1;  // positions of the neighbouring stages; -1: there is no such stage
    int first_number = 0;
  };

  const HeldStage* stage_of(int microbatch, int layer) const;  // null: elsewhere
  const HeldStage* head_stage(int microbatch) const;
  const HeldStage* stage_of(const Piece& piece) const;
  int number_of(const Piece& piece) const;  // wanted or not; -1: there can be no such piece here
  int num_layers() const { return static_cast<int>(shape_.layer_is_moe.size()); }
  int numbers_per_layer() const;
  bool is_moe(int layer) const { return shape_.layer_is_moe[static_cast<size_t>(layer)]; }

  void want(const Piece& piece);
  void want_boundary();
  void want_microbatch(const HeldStage& stage, int microbatch);
  void want_layer(int microbatch, int layer);

  void need(const Piece& piece, std::vector<int>& out) const;
  void need_parts(Kind kind, Pass pass, int microbatch, int layer, std::vector<int>& out) const;
  void need_output(int microbatch, int layer, std::vector<int>& out) const;
  void need_gradient(int microbatch, int layer, std::vector<int>& out) const;
  void need_weights(int layer, std::vector<int>& out) const;
  void need_contributions(const BucketShape& bucket, std::vector<int>& out) const;
  void need_earlier_sums(const Piece& piece, std::vector<int>& out) const;
  void forward_needs(const Piece& piece, std::vector<int>& out) const;
  void input_gradient_needs(const Piece& piece, std::vector<int>& out) const;
  void boundary_needs(const Piece& piece, std::vector<int>& out) const;

  const StepShape& shape_;
  const std::vector<BucketShape>& buckets_;
  int position_ = 0, num_positions_ = 0;
  bool with_boundary_ = false;
  std::vector<int> copy_of_;       // [micro-batch]
  std::vector<HeldStage> stages_;  // as the schedule's chunks
  std::vector<int> stage_index_;   // [copy][layer]: into stages_, or -1
  std::vector<uint8_t> wanted_;
  std::vector<Piece> pieces_;
};

std::string to_string(const Piece& piece);  // "experts.F m3 l5"

}  // namespace strait
