// parallel/program/passes/gradient_buckets.cpp: one reduction per bucket, after the last task that
// adds to its gradients.
//
// A bucket with copies on several positions is reduced by all of them together, so all must reach
// their reductions in one order: by the nominal end of the slot with the last contribution, the
// latest of all members; in one slot by the place in it; then by the first position that has the
// bucket and its number there.
#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "core/errors.h"
#include "parallel/program/dataflow.h"
#include "parallel/program/passes/passes.h"

namespace strait {
namespace {

struct Readiness {
  double slot_end = 0;
  int64_t place = 0;  // compute tasks of the slot up to it
  auto order() const { return std::tuple(slot_end, place); }
  friend bool operator<(const Readiness& a, const Readiness& b) { return a.order() < b.order(); }
};

Readiness readiness(const SlotTimes& times, const Program& program, int task) {
  const SlotTime& slot = times.of(program.position, program.tasks[static_cast<size_t>(task)]);
  Readiness ready{.slot_end = slot.end, .place = 0};
  for (int i = task; i >= 0; --i) {
    const Task& before = program.tasks[static_cast<size_t>(i)];
    if (before.lane != Lane::compute) continue;
    if (times.of(program.position, before).start != slot.start) break;
    ++ready.place;
  }
  return ready;
}

struct Reduction {
  Readiness ready;
  int first_position = 0, first_bucket = 0;
  int after = 0;  // the last contribution
  int bucket = 0;
  auto order() const {
    return std::tuple(ready.slot_end, ready.place, first_position, first_bucket);
  }
};

// All members see the same order.
void agree(std::vector<std::vector<Reduction>>& reductions, const StepShape& shape) {
  std::map<std::string, Reduction> latest;
  for (size_t position = 0; position < reductions.size(); ++position) {
    for (const Reduction& mine : reductions[position]) {
      const BucketShape& bucket = shape.buckets[position][static_cast<size_t>(mine.bucket)];
      if (bucket.positions.empty()) continue;
      const auto [found, is_new] = latest.try_emplace(bucket.name, mine);
      if (!is_new) found->second.ready = std::max(found->second.ready, mine.ready);
    }
  }
  for (size_t position = 0; position < reductions.size(); ++position) {
    for (Reduction& mine : reductions[position]) {
      const BucketShape& bucket = shape.buckets[position][static_cast<size_t>(mine.bucket)];
      if (bucket.positions.empty()) continue;
      const Reduction& agreed = latest.at(bucket.name);
      mine.ready = agreed.ready;
      mine.first_position = agreed.first_position;
      mine.first_bucket = agreed.first_bucket;
    }
    std::sort(reductions[position].begin(), reductions[position].end(),
              [](const Reduction& a, const Reduction& b) { return a.order() < b.order(); });
  }
}

void insert(Program& program, const std::vector<Reduction>& reductions,
            const std::vector<BucketShape>& buckets) {
  std::vector<Task> tasks;
  size_t next = 0;
  for (size_t i = 0; i < program.tasks.size(); ++i) {
    tasks.push_back(std::move(program.tasks[i]));
    for (; next < reductions.size() && reductions[next].after <= static_cast<int>(i); ++next) {
      const int bucket = reductions[next].bucket;
      tasks.push_back({.kind = Kind::reduce_gradients,
                       .lane = Lane::shard,
                       .bucket = bucket,
                       .positions = buckets[static_cast<size_t>(bucket)].positions});
    }
  }
  program.tasks = std::move(tasks);
}

}  // namespace

std::vector<Program> add_gradient_reductions(const StepShape& shape, const SlotTimes& times,
                                             std::vector<Program> programs) {
  std::vector<std::vector<Reduction>> reductions(programs.size());
  for (const Program& program : programs) {
    const auto position = static_cast<size_t>(program.position);
    const Dataflow dataflow(shape, program);
    for (size_t bucket = 0; bucket < shape.buckets[position].size(); ++bucket) {
      const int last = dataflow.last_contribution(shape.buckets[position][bucket]);
      STRAIT_CHECK(last >= 0, "nothing adds to bucket " + shape.buckets[position][bucket].name);
      reductions[position].push_back({.ready = readiness(times, program, last),
                                      .first_position = program.position,
                                      .first_bucket = static_cast<int>(bucket),
                                      .after = last,
                                      .bucket = static_cast<int>(bucket)});
    }
  }
  agree(reductions, shape);
  for (Program& program : programs) {
    const auto position = static_cast<size_t>(program.position);
    insert(program, reductions[position], shape.buckets[position]);
  }
  return programs;
}

}  // namespace strait
