// Plain attention: one warp a row, FP32 throughout, every sum in a fixed order.
#include <cuda_bf16.h>

#include "core/ops/cuda/attention.h"

namespace strait::cuda {
namespace {

constexpr int kLanes = 32, kWarps = 4, kMostPerLane = 8;  // head dims of at most 256
using Bf16 = __nv_bfloat16;

__device__ float sum_of_lanes(float x) {
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}

// One row of a head, spread over a warp: element j of lane l is element j * 32 + l.
struct LaneRow {
  float x[kMostPerLane];
};

__device__ LaneRow zeros() {
  LaneRow row;
  for (int j = 0; j < kMostPerLane; ++j) row.x[j] = 0;
  return row;
}
__device__ LaneRow load(const Bf16* from, int dim, int lane) {
  LaneRow row;
  for (int j = 0; j < kMostPerLane; ++j) {
    const int i = j * kLanes + lane;
    row.x[j] = i < dim ? __bfloat162float(from[i]) : 0.f;
  }
  return row;
}
__device__ void store(const LaneRow& row, Bf16* to, int dim, int lane) {
  for (int j = 0; j < kMostPerLane; ++j) {
    const int i = j * kLanes + lane;
    if (i < dim) to[i] = __float2bfloat16_rn(row.x[j]);
  }
}
__device__ float dot(const LaneRow& a, const LaneRow& b) {
  float sum = 0;
  for (int j = 0; j < kMostPerLane; ++j) sum = fmaf(a.x[j], b.x[j], sum);
  return sum_of_lanes(sum);
}
__device__ void add_scaled(LaneRow& to, float factor, const LaneRow& row) {
  for (int j = 0; j < kMostPerLane; ++j) to.x[j] = fmaf(factor, row.x[j], to.x[j]);
}

// Where a warp works: row `row` of head `head` of sequence `batch`.
struct Place {
  int64_t batch, head, row;
  bool valid;
};
__device__ Place place_of(const AttentionShape& s) {
  const int64_t index = int64_t(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  return {index / (s.heads * s.length), index / s.length % s.heads, index % s.length,
          index < s.batch * s.heads * s.length};
}
__device__ int64_t offset(const AttentionShape& s, const Place& at, int64_t row, int64_t dim) {
  return ((at.batch * s.length + row) * s.heads + at.head) * dim;
}
__device__ int64_t stat_offset(const AttentionShape& s, const Place& at, int64_t row) {
  return (at.batch * s.heads + at.head) * s.length + row;
}

__global__ void forward_kernel(AttentionShape s, const Bf16* q, const Bf16* k, const Bf16* v,
                               Bf16* o, float* stats, float scale) {
  const Place at = place_of(s);
  if (!at.valid) return;
  const int lane = threadIdx.x % kLanes, dqk = int(s.qk_dim), dv = int(s.v_dim);
  const LaneRow query = load(q + offset(s, at, at.row, dqk), dqk, lane);
  LaneRow out = zeros();
  float most = -INFINITY, sum = 0;
  for (int64_t key = 0; key <= at.row; ++key) {
    const float score = scale * dot(query, load(k + offset(s, at, key, dqk), dqk, lane));
    const float new_most = fmaxf(most, score), shrink = expf(most - new_most);
    const float weight = expf(score - new_most);
    for (float& x : out.x) x *= shrink;
    add_scaled(out, weight, load(v + offset(s, at, key, dv), dv, lane));
    sum = sum * shrink + weight;
    most = new_most;
  }
  for (float& x : out.x) x /= sum;
  store(out, o + offset(s, at, at.row, dv), dv, lane);
  if (lane == 0) stats[stat_offset(s, at, at.row)] = most + logf(sum);
}

__global__ void row_dots_kernel(AttentionShape s, const Bf16* o, const Bf16* d_o, float* dots) {
  const Place at = place_of(s);
  if (!at.valid) return;
  const int lane = threadIdx.x % kLanes, dv = int(s.v_dim);
  const int64_t from = offset(s, at, at.row, dv);
  const float sum = dot(load(o + from, dv, lane), load(d_o + from, dv, lane));
  if (lane == 0) dots[stat_offset(s, at, at.row)] = sum;
}

__global__ void dq_kernel(AttentionShape s, AttentionBackwardArgs args, const float* dots) {
  const Place at = place_of(s);
  if (!at.valid) return;
  const int lane = threadIdx.x % kLanes, dqk = int(s.qk_dim), dv = int(s.v_dim);
  const Bf16 *q = static_cast<const Bf16*>(args.q), *k = static_cast<const Bf16*>(args.k),
             *v = static_cast<const Bf16*>(args.v), *d_o = static_cast<const Bf16*>(args.d_o);
  const LaneRow query = load(q + offset(s, at, at.row, dqk), dqk, lane);
  const LaneRow d_out = load(d_o + offset(s, at, at.row, dv), dv, lane);
  const float stat = args.stats[stat_offset(s, at, at.row)];
  const float row_dot = dots[stat_offset(s, at, at.row)];
  LaneRow d_query = zeros();
  for (int64_t key = 0; key <= at.row; ++key) {
    const LaneRow key_row = load(k + offset(s, at, key, dqk), dqk, lane);
    const float weight = expf(args.scale * dot(query, key_row) - stat);
    const float d_weight = dot(d_out, load(v + offset(s, at, key, dv), dv, lane));
    add_scaled(d_query, args.scale * weight * (d_weight - row_dot), key_row);
  }
  store(d_query, static_cast<Bf16*>(args.dq) + offset(s, at, at.row, dqk), dqk, lane);
}

__global__ void dk_dv_kernel(AttentionShape s, AttentionBackwardArgs args, const float* dots) {
  const Place at = place_of(s);
  if (!at.valid) return;
  const int lane = threadIdx.x % kLanes, dqk = int(s.qk_dim), dv = int(s.v_dim);
  const Bf16 *q = static_cast<const Bf16*>(args.q), *k = static_cast<const Bf16*>(args.k),
             *v = static_cast<const Bf16*>(args.v), *d_o = static_cast<const Bf16*>(args.d_o);
  const LaneRow key_row = load(k + offset(s, at, at.row, dqk), dqk, lane);
  const LaneRow value_row = load(v + offset(s, at, at.row, dv), dv, lane);
  LaneRow d_key = zeros(), d_value = zeros();
  for (int64_t query = at.row; query < s.length; ++query) {
    const LaneRow query_row = load(q + offset(s, at, query, dqk), dqk, lane);
    const LaneRow d_out = load(d_o + offset(s, at, query, dv), dv, lane);
    const int64_t stat = stat_offset(s, at, query);
    const float weight = expf(args.scale * dot(query_row, key_row) - args.stats[stat]);
    add_scaled(d_value, weight, d_out);
    add_scaled(d_key, args.scale * weight * (dot(d_out, value_row) - dots[stat]), query_row);
  }
  store(d_key, static_cast<Bf16*>(args.dk) + offset(s, at, at.row, dqk), dqk, lane);
  store(d_value, static_cast<Bf16*>(args.dv) + offset(s, at, at.row, dv), dv, lane);
}

unsigned blocks_of(const AttentionShape& s) {
  return unsigned((s.batch * s.heads * s.length + kWarps - 1) / kWarps);
}

}  // namespace

void attention_forward_plain(const AttentionShape& shape, const AttentionForwardArgs& args,
                             cudaStream_t stream) {
  forward_kernel<<<blocks_of(shape), kWarps * kLanes, 0, stream>>>(
      shape, static_cast<const Bf16*>(args.q), static_cast<const Bf16*>(args.k),
      static_cast<const Bf16*>(args.v), static_cast<Bf16*>(args.o), args.stats, args.scale);
  STRAIT_CUDA_CALL(cudaGetLastError());
}

void attention_backward_plain(const AttentionShape& shape, const AttentionBackwardArgs& args,
                              float* row_dots, cudaStream_t stream) {
  const unsigned blocks = blocks_of(shape), threads = kWarps * kLanes;
  row_dots_kernel<<<blocks, threads, 0, stream>>>(shape, static_cast<const Bf16*>(args.o),
                                                  static_cast<const Bf16*>(args.d_o), row_dots);
  dq_kernel<<<blocks, threads, 0, stream>>>(shape, args, row_dots);
  dk_dv_kernel<<<blocks, threads, 0, stream>>>(shape, args, row_dots);
  STRAIT_CUDA_CALL(cudaGetLastError());
}

}  // namespace strait::cuda
