#include "parallel/comm/all_reduce.h"

#include "parallel/comm/all_gather.h"
#include "parallel/comm/reduce_scatter.h"
#include "parallel/comm/transfers.h"
#include "parallel/comm/tree_sum.h"

namespace strait {
namespace {

constexpr int64_t kSmallestBlock = 64;

// Equal blocks, but none below kSmallestBlock: the last ranks may own nothing.
std::vector<int64_t> split(int64_t count, int ranks) {
  const int64_t block = std::max(kSmallestBlock, (count + ranks - 1) / ranks);
  std::vector<int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank)
    counts.push_back(std::clamp<int64_t>(count - rank * block, 0, block));
  return counts;
}

template <class T, class Op>
OperationPtr all_reduce(const Channel& channel, std::span<T> values, Op op) {
  const std::vector<int64_t> counts = split(static_cast<int64_t>(values.size()), channel.size());
  return sequence({
      [=] {
        size_t begin = 0;
        for (int rank = 0; rank < channel.self(); ++rank)
          begin += static_cast<size_t>(counts[static_cast<size_t>(rank)]);
        const auto mine = static_cast<size_t>(counts[static_cast<size_t>(channel.self())]);
        return reduce_scatter_blocks<T, Op>(channel, values, values.subspan(begin, mine), counts,
                                            op);
      },
      [=] {
        std::vector<int64_t> bytes;
        for (const int64_t count : counts) bytes.push_back(count * static_cast<int64_t>(sizeof(T)));
        return all_gather(channel, {.data = bytes_of(values), .bytes_R = bytes});
      },
  });
}

}  // namespace

OperationPtr all_reduce_sum(const Channel& channel, std::span<float> values) {
  return all_reduce(channel, values, Sum<float>{});
}
OperationPtr all_reduce_sum(const Channel& channel, std::span<double> values) {
  return all_reduce(channel, values, Sum<double>{});
}
OperationPtr all_reduce_sum(const Channel& channel, std::span<int64_t> values) {
  return all_reduce(channel, values, Sum<int64_t>{});
}
OperationPtr all_reduce_max(const Channel& channel, std::span<float> values) {
  return all_reduce(channel, values, Max<float>{});
}
OperationPtr all_reduce_max(const Channel& channel, std::span<double> values) {
  return all_reduce(channel, values, Max<double>{});
}
OperationPtr all_reduce_max(const Channel& channel, std::span<int64_t> values) {
  return all_reduce(channel, values, Max<int64_t>{});
}

}  // namespace strait
