// launch/plan/step_memory.h: what one rank of a pipeline position holds, by purpose, without
// running anything.
#pragma once

#include "core/memory.h"
#include "parallel/program/task.h"
#include "parallel/program/validate.h"
#include "parallel/sim/model_work.h"

namespace strait {

// Between steps: weights, packed weights, gradients, and the optimizer's shard.
MemoryUse resident_memory(const ModelWork& work, int position);

// At the moment of the program when most is held in all, expert load even. Phases take and free
// what they did when they were measured, in the order of the program's compute lane; buffers of
// exchanges count with the phase before them. REQUIRES: work.stages and work.buckets are those of
// the program.
MemoryUse peak_memory(const ModelWork& work, const Program& program);

// For peak_use(): what a phase's forward leaves for its backward, all purposes together. Negative
// where backward holds more than forward left.
KeptBytes kept_bytes(const ModelWork& work, const Task& task);

}  // namespace strait
