// parallel/pipeline/schedule.h: a pipeline schedule as data: which chunk of work each position
// does, in which order.
//
// The model's layers are cut into stages. A position (the ranks of one pipeline coordinate) holds
// one or more chunks; a chunk is a stage, or one of several copies of a stage (DualPipe keeps two
// copies of every stage, at mirrored positions). A slot is one pass of one micro-batch through one
// chunk. A schedule says nothing of layers, links or seconds: parallel/program/lower.h makes tasks
// of it. Each schedule is a pure function of (positions, micro-batches) in a file of its own:
// parallel/pipeline/<name>.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strait {

// `backward` is the whole of it: input gradient and weight gradient together.
enum class Work : uint8_t { forward, backward, input_gradient, weight_gradient };

struct Slot {
  Work work = Work::forward;
  int microbatch = 0;
  int chunk = 0;        // index into Schedule::chunks[position]
  bool paired = false;  // this slot and the next one of its position (not paired itself) run as
                        // one, phases interleaved
  friend bool operator==(const Slot&, const Slot&) = default;
};

struct Chunk {
  int stage = 0;
  int copy = 0;
  friend bool operator==(const Chunk&, const Chunk&) = default;
};

struct ChunkPlace {
  int position = 0, chunk = 0;
};

struct Schedule {
  std::string name;
  int num_microbatches = 0;
  int num_stages = 0;
  int num_copies = 1;  // micro-batch m runs on copy m * num_copies / num_microbatches
  std::vector<std::vector<Chunk>> chunks;  // [position][chunk]
  std::vector<std::vector<Slot>> slots;    // [position], in order

  int num_positions() const { return static_cast<int>(chunks.size()); }
  int copy_of(int microbatch) const {
    return static_cast<int>(int64_t{microbatch} * num_copies / num_microbatches);
  }
  // Where a stage's copy is. REQUIRES: it is somewhere (check_schedule).
  ChunkPlace place_of(int stage, int copy) const;
};

// Proves that every (stage, micro-batch) has its forward once, and its backward once or its input
// and weight gradient once each, in that order and on the copy the micro-batch belongs to; that
// every stage's copies are each somewhere once, and every position holds one; that pairs are two
// slots of different micro-batches, a forward and then a backward or an input gradient; and that
// the slots can run to their end when each waits for its inputs, and a pair for those of both its
// slots. Throws RecipeError that names the position, the slot and the rule. Schedules by name:
// schedules.h.
void check_schedule(const Schedule& schedule);

const char* name_of(Work work);           // "F", "B", "I", "W"
std::string to_string(const Slot& slot);  // "F3.0": work, micro-batch, chunk

}  // namespace strait
