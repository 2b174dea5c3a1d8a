#include "parallel/pipeline/schedule.h"

#include <fmt/format.h>

#include "core/errors.h"

namespace strait {

ChunkPlace Schedule::place_of(int stage, int copy) const {
  for (int position = 0; position < num_positions(); ++position) {
    const std::vector<Chunk>& held = chunks[position];
    for (int chunk = 0; chunk < static_cast<int>(held.size()); ++chunk)
      if (held[chunk] == Chunk{stage, copy}) return {position, chunk};
  }
  STRAIT_CHECK(false, fmt::format("no position of {} holds stage {}, copy {}", name, stage, copy));
}

const char* name_of(Work work) {
  switch (work) {
    case Work::forward:
      return "F";
    case Work::backward:
      return "B";
    case Work::input_gradient:
      return "I";
    case Work::weight_gradient:
      return "W";
  }
  return "?";
}

std::string to_string(const Slot& slot) {
  return fmt::format("{}{}.{}", name_of(slot.work), slot.microbatch, slot.chunk);
}

}  // namespace strait
