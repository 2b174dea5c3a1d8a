// parallel/comm/all_reduce.h: every rank gets the element-wise sum or maximum over all ranks, in
// place.
//
// The order of additions is that of tree_sum.h, on every backend: all ranks get the same bits, in
// every run. `values` has the same length on all ranks and must outlive the event. Made of a
// reduce-scatter and an all-gather; short vectors (up to 64 values) are added by the first rank of
// the group. Cost per rank: the sum of both.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/comm/comm.h"

namespace strait {

OperationPtr all_reduce_sum(const Channel& channel, std::span<float> values);
OperationPtr all_reduce_sum(const Channel& channel, std::span<double> values);
OperationPtr all_reduce_sum(const Channel& channel, std::span<int64_t> values);

// A NaN anywhere gives NaN.
OperationPtr all_reduce_max(const Channel& channel, std::span<float> values);
OperationPtr all_reduce_max(const Channel& channel, std::span<double> values);
OperationPtr all_reduce_max(const Channel& channel, std::span<int64_t> values);

}  // namespace strait
