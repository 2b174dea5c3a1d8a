// parallel/comm/tree_sum.h: the one order in which values of several ranks are added.
//
// A balanced binary tree over positions: sum[0, n) = sum[0, m) + sum[m, n), m the largest power of
// two below n. Ranks that form an aligned run of 2^k own a subtree, so adding inside nodes first
// gives the same bits.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace strait {

template <class T>
struct Sum {
  T operator()(T a, T b) const { return a + b; }
};

// A NaN on either side stays NaN.
template <class T>
struct Max {
  T operator()(T a, T b) const { return a != a || a > b ? a : b; }
};

namespace tree_sum_detail {

inline constexpr size_t kBlock = 512;

template <class T, class Op>
void combine(std::span<const T* const> inputs, size_t begin, size_t count, T* out, Op op) {
  if (inputs.size() == 1) {
    std::memcpy(out, inputs[0] + begin, count * sizeof(T));
    return;
  }
  if (inputs.size() == 2) {
    const T* a = inputs[0] + begin;
    const T* b = inputs[1] + begin;
    for (size_t i = 0; i < count; ++i) out[i] = op(a[i], b[i]);
    return;
  }
  const size_t left = std::bit_floor(inputs.size() - 1);
  T right[kBlock];
  combine(inputs.first(left), begin, count, out, op);
  combine(inputs.subspan(left), begin, count, right, op);
  for (size_t i = 0; i < count; ++i) out[i] = op(out[i], right[i]);
}

}  // namespace tree_sum_detail

// out[i] = inputs[0][i] + ... + inputs[n-1][i] in tree order. `out` may be one of the inputs.
template <class T, class Op = Sum<T>>
void tree_sum(std::span<const T* const> inputs, std::span<T> out, Op op = {}) {
  constexpr size_t kBlock = tree_sum_detail::kBlock;
  T block[kBlock];
  for (size_t begin = 0; begin < out.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, out.size() - begin);
    tree_sum_detail::combine(inputs, begin, count, block, op);
    std::memcpy(out.data() + begin, block, count * sizeof(T));
  }
}

}  // namespace strait
