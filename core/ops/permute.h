// core/ops/permute.h: rows of tokens to the order of experts, and sums over experts back to tokens.
// T tokens (output rows), R routed rows, H hidden, N entries. "A" is f32 or bf16; rows may be
// strided.
#pragma once

#include <span>

#include "core/context.h"
#include "core/ops/accumulate.h"

namespace strait {

// out_RH[r] = x_TH[index_R[r]].   x, out: A, index: i32 or i64. Rows may be named more than once;
// the same type is copied bit by bit, otherwise converted. Also the gradient of tree_sum.
void gather_rows(Context& ctx, const Tensor& x_TH, const Tensor& index_R, Tensor& out_RH);

// For each output row t its entries offsets[t] .. offsets[t+1]-1, in strictly ascending expert
// order.
struct TreeEntries {
  Tensor offsets;  // [T+1] i32, offsets[0] = 0, offsets[T] = N
  Tensor experts;  // [N] i32: an expert id, or the lowest id of the partial sum the row already is
  Tensor rows;     // [N] i32: row in `rows_RH`
};

// out_TH[t] = the sum of t's rows in one fixed binary tree over the expert ids:
//   sum[lo, hi) = sum[lo, mid) + sum[mid, hi),  mid = lo + (hi - lo) / 2,
// in FP32, where a half without entries contributes nothing (it is not + 0). `first` and `last` are
// the root's [lo, hi); every id lies inside. A row without entries is 0 (or unchanged, when
// accumulating).
//
// A node of the tree can be summed on its own and enter its parent as one row: if [a, b) is a node
// of the tree over [0, E), then tree_sum over [a, b) of the entries inside, entered as expert a,
// gives the same bits as entering them all. (Where one entry lies in a node, the node's sum is that
// row as it is, so where its own range ends does not matter.) With f32 partial sums, ranks that own
// [E p / R, E (p+1) / R), R a power of two that divides E, therefore give the bits of one rank.
// Tokens without entries on a rank must not be entered for it.
struct ExpertRange {
  int64_t first = 0, last = 0;  // [first, last)
};
void tree_sum(Context& ctx, const Tensor& rows_RH, const TreeEntries& entries, ExpertRange range,
              Accumulate accumulate, Tensor& out_TH);

// The same for output rows [begin, end) alone, on the calling thread and billed to nobody: for sums
// on the way between ranks, which a communication thread makes.
struct TreeEntrySpans {
  std::span<const int32_t> offsets, experts, rows;  // as in TreeEntries
};
void tree_sum_part(const Tensor& rows_RH, const TreeEntrySpans& entries, ExpertRange range,
                   int64_t begin, int64_t end, const Tensor& out_TH);

}  // namespace strait
