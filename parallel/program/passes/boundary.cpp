// parallel/program/passes/boundary.cpp: the update for the step before, in front of everything
// else.
//
// Gradient norm, one commit of all positions, update of the shards, gathers and packing, bucket
// after bucket in the order forward needs the weights. A micro-batch reaches the layers in their
// order whatever the schedule, so that is the order of the first layers that read a bucket, of all
// positions that have it; and with it gathers that several positions share come in one order on all
// of them.
#include <algorithm>
#include <numeric>
#include <tuple>

#include "parallel/program/passes/passes.h"

namespace strait {
namespace {

using Order =
    std::tuple<int, int, int>;  // first layer, first position with the bucket, its number there

Order own_order(const StepShape& shape, int position, size_t bucket) {
  const std::vector<int>& layers = shape.buckets[static_cast<size_t>(position)][bucket].layers;
  return {*std::min_element(layers.begin(), layers.end()), position, static_cast<int>(bucket)};
}

// The same on all positions that share the bucket.
Order agreed_order(const StepShape& shape, int position, size_t bucket) {
  const BucketShape& mine = shape.buckets[static_cast<size_t>(position)][bucket];
  Order order = own_order(shape, position, bucket);
  for (const int other : mine.positions) {
    const std::vector<BucketShape>& theirs = shape.buckets[static_cast<size_t>(other)];
    for (size_t i = 0; i < theirs.size(); ++i) {
      if (theirs[i].name != mine.name) continue;
      const auto [layer, first_position, number] = own_order(shape, other, i);
      std::get<0>(order) = std::min(std::get<0>(order), layer);
      const auto place = std::min(std::pair(std::get<1>(order), std::get<2>(order)),
                                  std::pair(first_position, number));
      std::tie(std::get<1>(order), std::get<2>(order)) = place;
    }
  }
  return order;
}

}  // namespace

Program add_boundary(const StepShape& shape, bool commits, Program program) {
  const std::vector<BucketShape>& buckets = shape.buckets[static_cast<size_t>(program.position)];
  std::vector<int> in_order(buckets.size());
  std::iota(in_order.begin(), in_order.end(), 0);
  std::vector<Order> orders;
  for (size_t bucket = 0; bucket < buckets.size(); ++bucket)
    orders.push_back(agreed_order(shape, program.position, bucket));
  std::sort(in_order.begin(), in_order.end(), [&](int a, int b) {
    return orders[static_cast<size_t>(a)] < orders[static_cast<size_t>(b)];
  });

  std::vector<Task> tasks;
  if (commits) {
    std::vector<int> others;
    for (int other = 0; other < static_cast<int>(shape.buckets.size()); ++other)
      if (other != program.position) others.push_back(other);
    tasks.push_back({.kind = Kind::gradient_norm});
    tasks.push_back({.kind = Kind::commit, .lane = Lane::shard, .positions = others});
  }
  for (const int bucket : in_order) {
    if (commits) tasks.push_back({.kind = Kind::update, .bucket = bucket});
    tasks.push_back({.kind = Kind::gather_weights,
                     .lane = Lane::shard,
                     .bucket = bucket,
                     .positions = buckets[static_cast<size_t>(bucket)].positions});
  }
  for (const int bucket : in_order) tasks.push_back({.kind = Kind::pack_weights, .bucket = bucket});
  for (Task& task : program.tasks) tasks.push_back(std::move(task));
  program.tasks = std::move(tasks);
  return program;
}

}  // namespace strait
