// recipes/batch_ramp.h: how many sequences each step of a run has.
#pragma once

#include <cstdint>
#include <vector>

#include "recipes/train_settings.h"

namespace strait {

// Of the step that begins when the run has seen `samples` sequences: a function of them alone, so a
// resumed run goes on as it would have.
int64_t batch_after(const TrainSettings& train, int64_t samples);

// Every batch that a run may have, smallest first; the last is global_batch.
std::vector<int64_t> batches_of(const TrainSettings& train);

// Of all steps together; may be more than 64 bits hold.
double sequences_of_run(const TrainSettings& train);

}  // namespace strait
