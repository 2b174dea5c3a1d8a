// core/autograd/functions.h: the ops as a Segment records them.   T tokens, H hidden, R rows of
// experts, E experts.
//
// Each function computes its result at once and, in training, records its backward. Activations
// have the compute dtype of the run (FP32 or BF16); `out` says otherwise. Gradients of weights are
// added to Parameter::gradient.
//
// Linear layers multiply what Parameter::operands says, from FP32 (the router) to FP8. In FP8
// activations and gradients are quantised in tiles of 1 x 128 for y and dx, and for dW in tiles of
// 128 x 1: dy from itself; x from itself if backward makes it again, and else from its codes, which
// are all that is kept of it. Source: DeepSeek-V3 report, sections 3.3.2 and 3.3.3.
#pragma once

#include <memory>
#include <vector>

#include "core/autograd/parameter.h"
#include "core/autograd/segment.h"
#include "core/ops/attention.h"
#include "core/ops/permute.h"
#include "core/ops/rope.h"
#include "core/ops/router.h"

namespace strait {

// y = x W^T.  x [T, in], weight [out, in] -> [T, out].
Var linear(Segment& segment, const Var& x, Parameter& weight, DType out);
// The same, recomputed in backward if `wanted`.
Var linear_recomputed(Segment& segment, const Var& x, Parameter& weight, DType out, bool wanted);
// y = residual + x W^T in FP32.  residual [T, out] FP32.
Var linear_add(Segment& segment, const Var& x, Parameter& weight, const Var& residual);

// What reads a value: where that is FP8 products alone, only its codes are made, while its rows
// are.
enum class ReadBy : uint8_t { anyone, fp8_products };
ReadBy read_by(const Parameter& weight);

// y = x / rms(x) * weight.  x [T, n] FP32 or compute dtype -> `out`.
Var rms_norm(Segment& segment, const Var& x, Parameter& weight, double eps, DType out,
             ReadBy readers = ReadBy::anyone);

// Splits the columns of x into [T, first] and the rest; the two share x's storage.
std::pair<Var, Var> split_columns(Segment& segment, const Var& x, int64_t first);
// [T, a + b] from [T, a] and [T, b].
Var concat_columns(Segment& segment, const Var& a, const Var& b);

// Rotates the RoPE columns of every head in place: the input is used up.
using RopeTablePtr = std::shared_ptr<const RopeTable>;
Var rope_in_place(Segment& segment, const Var& x, const RopeLayout& layout,
                  const RopeTablePtr& table);

// MLA's causal attention; see core/ops/attention.h for the shapes.
Var attention(Segment& segment, const AttentionShape& shape, const Var& q, const Var& kv,
              const Var& k_rope);

// Keeps `value` in a smaller format from the end of forward on, if Recompute::compact: as FP8 in
// tiles of 1 x 128, or E5M6. What backward reads is that.
enum class Kept : uint8_t { fp8, e5m6 };
void keep_compact(Segment& segment, const Var& value, Kept format, Purpose purpose);

// silu(gate) * up, times a weight per row if given.  gate_up [R, 2F], row_weights [R] FP32 -> [R,
// F].
Var swiglu(Segment& segment, const Var& gate_up, const Var* row_weights,
           ReadBy readers = ReadBy::anyone);

// y = x W_e^T for the rows of each expert.  x [R, in] sorted by expert, offsets [E + 1], weight [E,
// out, in].
using Offsets = std::shared_ptr<const std::vector<int64_t>>;
Var grouped_linear(Segment& segment, const Var& x, Parameter& weight, const Offsets& offsets,
                   DType out);

// Chosen experts and their weights.  logits [T, E] FP32 -> weights [T, K] FP32; `ids` [T, K] is
// set. Backward adds the sequence-wise balance loss's gradient when balance.alpha > 0;
// `balance_loss` [B] is set then.
struct Route {
  Var weights;
  Tensor ids;
  Tensor balance_loss;
};
Route route(Segment& segment, const Var& logits, const RouteSettings& settings,
            const Tensor& bias_E, const BalanceLoss& balance);

// Which rows the experts [range.first, range.last) take: pairs (row, expert) are sorted by expert,
// then by row. U rows, R pairs.
struct PairMap {
  Tensor row_of_pair;        // [R] i32
  TreeEntries pairs_of_row;  // for each of the U rows, its pairs by expert
  ExpertRange range;
};
using PairMapPtr = std::shared_ptr<const PairMap>;
// rows [U, H] -> one row per pair [R, H]; and one row per pair -> the sums [U, H] over each row's
// pairs.
Var gather_pairs(Segment& segment, const Var& rows, const PairMapPtr& pairs,
                 ReadBy readers = ReadBy::anyone);
Var sum_pairs(Segment& segment, const Var& pair_rows, const PairMapPtr& pairs, DType out);

// Rows of the embedding, FP32.  ids [T] -> [T, H].
Var embedding(Segment& segment, const Tensor& ids, Parameter& weight);

}  // namespace strait
