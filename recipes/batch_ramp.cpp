#include "recipes/batch_ramp.h"

#include <algorithm>

namespace strait {

int64_t batch_after(const TrainSettings& train, int64_t samples) {
  const BatchRampSettings& ramp = train.batch_ramp;
  if (ramp.from == 0) return train.global_batch;
  const int64_t sizes = (train.global_batch - ramp.from) / ramp.increment;  // before the whole one
  const int64_t part = std::max<int64_t>(1, ramp.tokens / sizes / train.sequence_length);
  return ramp.from + ramp.increment * std::min(sizes, samples / part);
}

std::vector<int64_t> batches_of(const TrainSettings& train) {
  std::vector<int64_t> batches;
  const BatchRampSettings& ramp = train.batch_ramp;
  for (int64_t batch = ramp.from; batch > 0 && batch < train.global_batch; batch += ramp.increment)
    batches.push_back(batch);
  batches.push_back(train.global_batch);
  return batches;
}

double sequences_of_run(const TrainSettings& train) {
  int64_t step = 0, samples = 0;
  for (; step < train.steps; ++step) {
    const int64_t batch = batch_after(train, samples);
    if (batch == train.global_batch) break;
    samples += batch;
  }
  return static_cast<double>(samples) +
         static_cast<double>(train.steps - step) * static_cast<double>(train.global_batch);
}

}  // namespace strait
