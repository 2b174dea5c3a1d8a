#include "core/ops/cuda/kernels/fp8_rows.cuh"
#include "core/ops/cuda/kernels/rows.cuh"
#include "core/ops/cuda/swiglu.h"
#include "core/ops/math/activation.h"

namespace strait::cuda {
namespace {

__global__ void swiglu_kernel(Swiglu call, unsigned blocks_per_row) {
  const ChunkPlace at(blocks_per_row);
  const int64_t count = call.cols - at.col;
  const float weight = call.weight != nullptr ? call.weight[at.row] : 1.0f;
  Eight h = Eight::load(call.gate_up, at.row, at.col, count);
  const Eight up = Eight::load(call.gate_up, at.row, call.cols + at.col, count);
#pragma unroll
  for (int i = 0; i < kChunk; i++) h.x[i] = swiglu_element<Scalar>(h.x[i], up.x[i], weight);
  if (call.h.data != nullptr) h.store(call.h, at.row, at.col, count);
  if (call.q.codes == nullptr) return;
  round_as(h, call.h.bf16);
  quantize_chunk(call.q, call.rows, call.cols, at.row, at.col, h);
}

// A warp for each row.
__global__ void swiglu_backward_kernel(SwigluBackward call) {
  const int64_t row = row_of_warp();
  if (row >= call.rows) return;
  const float weight = call.weight != nullptr ? call.weight[row] : 1.0f;
  Pair dot{{0, 0}};
  visit_pairs(call.cols, [&](int64_t col, int count) {
    const Pair dh = Pair::load(call.dh, row, col, count);
    const Pair gate = Pair::load(call.gate_up, row, col, count);
    const Pair up = Pair::load(call.gate_up, row, call.cols + col, count);
    Pair d_gate, d_up;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const auto g = swiglu_gradient<Scalar>(dh.x[i], gate.x[i], up.x[i], weight);
      d_gate.x[i] = g.d_gate;
      d_up.x[i] = g.d_up;
      dot.x[i] = fmaf(g.dh_silu, up.x[i], dot.x[i]);
    }
    d_gate.store(call.d_gate_up, row, col, count);
    d_up.store(call.d_gate_up, row, call.cols + col, count);
  });
  const float sum = add_lanes(dot.x[0], dot.x[1]);
  if (call.d_weight != nullptr && lane_of_warp() == 0) call.d_weight[row] = sum;
}

}  // namespace

void swiglu(const Swiglu& call, cudaStream_t stream) {
  require(call.q.codes == nullptr || call.h.bf16, "swiglu", "FP8 of a result that is not BF16");
  const ChunkGrid grid(call.rows, ceil_div(call.cols, kChunk));
  if (grid.blocks == 0) return;
  STRAIT_LAUNCH(swiglu_kernel, grid.blocks, grid.threads, stream, call, grid.blocks_per_row);
}

void swiglu_backward(const SwigluBackward& call, cudaStream_t stream) {
  require((call.weight == nullptr) == (call.d_weight == nullptr), "swiglu_backward",
          "weight and d_weight: expected both or neither");
  if (call.rows == 0) return;
  STRAIT_LAUNCH(swiglu_backward_kernel, warp_blocks(call.rows), kRowThreads, stream, call);
}

}  // namespace strait::cuda
