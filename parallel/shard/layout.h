// parallel/shard/layout.h: which rank holds which elements of the training state, and moving them
// from any layout to any other in memory.
//
// State has names: (Hugging Face tensor, kind of value), flattened. A layout is what every rank
// says it holds, as a list of pieces; it knows nothing of replica groups, so ranks that hold
// nothing, copies on several receivers and one rank that holds everything are all layouts. That
// every element has exactly one holder is proven from the pieces of all ranks before anything
// moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/comm.h"
#include "parallel/shard/bucket.h"

namespace strait {

enum class StateKind : uint8_t { master, first_moment, second_moment, bias, gradient };
const char* name_of(StateKind kind);  // "master", "m", "v", "bias", "gradient"

inline constexpr StateKind kOptimizerState[] = {StateKind::master, StateKind::first_moment,
                                                StateKind::second_moment};

// Elements [offset, offset + count) of a flattened tensor, in this rank's memory.
struct StatePiece {
  std::string name;
  StateKind kind = StateKind::master;
  int64_t offset = 0, count = 0;
  DType dtype = DType::f32;
  std::byte* values = nullptr;
};

// This rank's own shards, `gradient` included: the stretch of the summed gradients it owns. Valid
// as long as the buckets.
std::vector<StatePiece> pieces_of(std::span<const Bucket> buckets,
                                  std::span<const StateKind> kinds);
// The selection biases of all MoE layers, from `bias` [MoE layers, E]. Every rank has them whole:
// as the source of a reshard name them on one rank only.
std::vector<StatePiece> bias_pieces(const Model& model, std::span<float> bias);

// A tensor that the whole model has, whatever part of it a rank holds.
struct StateTensor {
  std::string name;
  StateKind kind = StateKind::master;
  int64_t numel = 0;
};
std::vector<StateTensor> state_tensors(const ModelSettings& settings,
                                       std::span<const StateKind> kinds);

class Layout {
 public:
  struct Stretch {
    std::string name;
    StateKind kind = StateKind::master;
    DType dtype = DType::f32;
    int64_t offset = 0, count = 0;
    int holder = 0;    // position in the channel's group
    size_t index = 0;  // of the holder's pieces
  };

  Layout() = default;
  explicit Layout(std::vector<Stretch> stretches);
  // What all ranks of the channel hold. Collective. Cost: about 30 bytes and the name per piece, to
  // the first rank and from it to all.
  static Layout gather(const Channel& channel, std::span<const StatePiece> mine);

  const std::vector<Stretch>& stretches() const {
    return stretches_;
  }  // by name, kind, offset, holder
  // The position that holds an element; -1: none does.
  int holder_of(const std::string& name, StateKind kind, int64_t element) const;
  // The stretches that share an element with [offset, offset + count), by offset.
  std::vector<const Stretch*> overlapping(const std::string& name, StateKind kind, int64_t offset,
                                          int64_t count) const;
  // Proves that every element of `tensors` is held exactly once, and nothing else is. Throws
  // InternalError that names the first element held by no rank or by two.
  void require_complete(std::span<const StateTensor> tensors) const;

 private:
  std::vector<Stretch> stretches_;
};

// Moves the state named by `to` from where `from` holds it. Collective over the channel's group;
// each rank gives its own lists, either may be empty. Several ranks may want the same element; what
// nobody wants stays. Proves first that every element wanted is held by exactly one rank, with the
// same dtype, and throws InternalError on all ranks if not. REQUIRES: called from a thread that may
// sleep; `from` and `to` share no memory. Cost: both maps as in Layout::gather, then each element
// once over the wire unless it stays on its rank, in messages of at most message_bytes; staging of
// two messages per peer.
void reshard(const Channel& channel, std::span<const StatePiece> from,
             std::span<const StatePiece> to, int64_t message_bytes = int64_t{1} << 20);

}  // namespace strait
