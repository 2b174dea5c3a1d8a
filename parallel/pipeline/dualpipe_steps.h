// parallel/pipeline/dualpipe_steps.h: the eight steps that DualPipe and DualPipeV share, for one
// position.
//
// A position has two chunks, here called sides: side 0 is the one nearer to its micro-batches'
// entry. Weight gradients that were put off run first in, first out, over both sides.   Source:
// DeepSeek's DualPipe repository, README's figure.
#pragma once

#include <vector>

#include "parallel/pipeline/schedule.h"

namespace strait {

struct DualPipeSide {
  int chunk = 0;
  int first_microbatch = 0;
};

struct DualPipePlace {
  int distance =
      0;  // positions between this one and the turn (the middle, or the V's tip); 0 at the turn
  int from_entry = 0;        // positions between the entry and this one
  int num_microbatches = 0;  // of each side; REQUIRES: >= 2 * (distance + from_entry + 1)
  DualPipeSide sides[2];
};

std::vector<Slot> dualpipe_steps(const DualPipePlace& place);

}  // namespace strait
