#include "core/ops/cuda/attention.h"

#include <algorithm>
#include <map>

namespace strait::cuda {
namespace {

// What the graphs read and write.
enum Uid : int64_t {
  kQ = 1,
  kK,
  kV,
  kO,
  kStats,
  kDO,
  kDQ,
  kDK,
  kDV,
  kRowSums,
  kDQSums,
  kScale,
  kOne,
  kMinusInfinity,
};

constexpr int64_t kAlignment = 256;
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Graphs see [batch, heads, rows, dim]; in memory a row's heads lie together.
CudnnTensor rows_of(CudnnGraph& graph, Uid uid, const AttentionShape& s, int64_t dim) {
  return graph.memory(uid, {s.batch, s.heads, s.length, dim},
                      {s.length * s.heads * dim, dim, s.heads * dim, 1}, CUDNN_DATA_BFLOAT16);
}
CudnnTensor columns_of(CudnnGraph& graph, Uid uid, const AttentionShape& s, int64_t dim) {
  return graph.memory(uid, {s.batch, s.heads, dim, s.length},
                      {s.length * s.heads * dim, dim, 1, s.heads * dim}, CUDNN_DATA_BFLOAT16);
}
CudnnTensor one_per_row(CudnnGraph& graph, Uid uid, const AttentionShape& s) {
  return graph.memory(uid, {s.batch, s.heads, s.length, 1}, {s.heads * s.length, s.length, 1, 1},
                      CUDNN_DATA_FLOAT);
}

CudnnDims scores_dims(const AttentionShape& s) { return {s.batch, s.heads, s.length, s.length}; }

// Minus infinity where a query does not see the key.
CudnnTensor causal(CudnnGraph& graph, const CudnnTensor& scores) {
  const CudnnTensor row = graph.index(scores, 2, graph.value(scores.dims, CUDNN_DATA_INT32));
  const CudnnTensor column = graph.index(scores, 3, graph.value(scores.dims, CUDNN_DATA_INT32));
  const CudnnTensor seen =
      graph.map(CUDNN_POINTWISE_CMP_GE, row, column, graph.value(scores.dims, CUDNN_DATA_BOOLEAN));
  return graph.select(seen, scores, graph.scalar(kMinusInfinity), graph.value(scores.dims));
}

void* writable(const void* pointer) { return const_cast<void*>(pointer); }

}  // namespace

CudnnGraph attention_forward_graph(const AttentionShape& s) {
  CudnnGraph graph;
  const CudnnDims square = scores_dims(s), one{s.batch, s.heads, s.length, 1};
  const CudnnTensor products = graph.matmul(
      rows_of(graph, kQ, s, s.qk_dim), columns_of(graph, kK, s, s.qk_dim), graph.value(square));
  const CudnnTensor scores = causal(
      graph, graph.map(CUDNN_POINTWISE_MUL, products, graph.scalar(kScale), graph.value(square)));
  const CudnnTensor most = graph.reduce(CUDNN_REDUCE_TENSOR_MAX, scores, graph.value(one));
  const CudnnTensor exponentials = graph.map(
      CUDNN_POINTWISE_EXP, graph.map(CUDNN_POINTWISE_SUB, scores, most, graph.value(square)),
      graph.value(square));
  const CudnnTensor sums = graph.reduce(CUDNN_REDUCE_TENSOR_ADD, exponentials, graph.value(one));
  graph.map(CUDNN_POINTWISE_ADD, most, graph.map(CUDNN_POINTWISE_LOG, sums, graph.value(one)),
            one_per_row(graph, kStats, s));
  const CudnnTensor weights =
      graph.map(CUDNN_POINTWISE_DIV, exponentials, sums, graph.value(square, CUDNN_DATA_BFLOAT16));
  graph.matmul(weights, rows_of(graph, kV, s, s.v_dim), rows_of(graph, kO, s, s.v_dim));
  return graph;
}

// The shapes of operations are those of cuDNN's own frontend: its engines match whole graphs.
CudnnGraph attention_backward_graph(const AttentionShape& s, bool deterministic) {
  CudnnGraph graph;
  const CudnnDims square = scores_dims(s), one{s.batch, s.heads, s.length, 1};
  const CudnnTensor scale = graph.scalar(kScale), d_o = rows_of(graph, kDO, s, s.v_dim),
                    q = rows_of(graph, kQ, s, s.qk_dim),
                    k_columns = columns_of(graph, kK, s, s.qk_dim);
  const auto transposed = [&](const CudnnTensor& x) {
    return graph.reshape(
        x, graph.value(square, {s.heads * s.length * s.length, s.length * s.length, 1, s.length},
                       CUDNN_DATA_BFLOAT16));
  };

  const CudnnTensor dots = graph.reduce(
      CUDNN_REDUCE_TENSOR_ADD,
      graph.map(CUDNN_POINTWISE_MUL, d_o, rows_of(graph, kO, s, s.v_dim), graph.value(d_o.dims)),
      graph.value(one));
  const CudnnTensor row_sums =
      graph.map(CUDNN_POINTWISE_MUL, dots, graph.scalar(kOne), one_per_row(graph, kRowSums, s));

  const CudnnTensor scores =
      graph.map(CUDNN_POINTWISE_MUL, graph.matmul(q, k_columns, graph.value(square)), scale,
                graph.value(square));
  const CudnnTensor shifted =
      graph.map(CUDNN_POINTWISE_SUB, scores, one_per_row(graph, kStats, s), graph.value(square));
  const CudnnTensor weights =
      graph.map(CUDNN_POINTWISE_EXP, causal(graph, shifted), graph.value(square));
  graph.matmul(transposed(weights), d_o, rows_of(graph, kDV, s, s.v_dim));

  const CudnnTensor d_weights =
      graph.matmul(d_o, columns_of(graph, kV, s, s.v_dim), graph.value(square));
  const CudnnTensor d_scores =
      graph.map(CUDNN_POINTWISE_MUL,
                graph.map(CUDNN_POINTWISE_MUL,
                          graph.map(CUDNN_POINTWISE_SUB, d_weights, row_sums, graph.value(square)),
                          weights, graph.value(square)),
                scale, graph.value(square));
  graph.matmul(transposed(d_scores), q, rows_of(graph, kDK, s, s.qk_dim));

  const CudnnDims wide{s.batch, s.heads, s.length, s.qk_dim};
  const CudnnTensor k = graph.reshape(
      k_columns, graph.value(wide, {s.length * s.heads * s.qk_dim, s.qk_dim, s.heads * s.qk_dim, 1},
                             CUDNN_DATA_FLOAT));
  if (deterministic) {
    graph.matmul(d_scores, k, rows_of(graph, kDQ, s, s.qk_dim));
  } else {
    const CudnnTensor sums = graph.memory(
        kDQSums, wide, {s.heads * s.length * s.qk_dim, s.length * s.qk_dim, s.qk_dim, 1},
        CUDNN_DATA_FLOAT);
    graph.map(CUDNN_POINTWISE_IDENTITY, graph.matmul(d_scores, k, sums),
              rows_of(graph, kDQ, s, s.qk_dim));
  }
  return graph;
}

namespace {
CudnnPlan plan_of(cudnnHandle_t handle, CudnnGraph graph) { return {handle, graph}; }
}  // namespace

CudnnAttention::CudnnAttention(cudnnHandle_t handle, const AttentionShape& shape,
                               bool deterministic)
    : handle_(handle),
      shape_(shape),
      deterministic_(deterministic),
      forward_(plan_of(handle, attention_forward_graph(shape))),
      backward_(plan_of(handle, attention_backward_graph(shape, deterministic))) {}

int64_t CudnnAttention::row_sums_bytes() const {
  return aligned(shape_.batch * shape_.heads * shape_.length * 4);
}
int64_t CudnnAttention::dq_sums_bytes() const {
  return deterministic_ ? 0
                        : aligned(shape_.batch * shape_.heads * shape_.length * shape_.qk_dim * 4);
}
int64_t CudnnAttention::scratch_bytes() const {
  return std::max(forward_.workspace_bytes(),
                  row_sums_bytes() + dq_sums_bytes() + backward_.workspace_bytes());
}

void CudnnAttention::forward(const AttentionForwardArgs& args, void* scratch,
                             cudaStream_t stream) const {
  float scale = args.scale, minus_infinity = -__builtin_inff();
  STRAIT_CUDNN_CALL(cudnnSetStream(handle_, stream));
  forward_.run({{kQ, writable(args.q)},
                {kK, writable(args.k)},
                {kV, writable(args.v)},
                {kO, args.o},
                {kStats, args.stats},
                {kScale, &scale},
                {kMinusInfinity, &minus_infinity}},
               scratch);
}

void CudnnAttention::backward(const AttentionBackwardArgs& args, void* scratch,
                              cudaStream_t stream) const {
  float scale = args.scale, one = 1, minus_infinity = -__builtin_inff();
  char* row_sums = static_cast<char*>(scratch);
  char* dq_sums = row_sums + row_sums_bytes();
  std::map<int64_t, void*> operands{{kQ, writable(args.q)},
                                    {kK, writable(args.k)},
                                    {kV, writable(args.v)},
                                    {kO, writable(args.o)},
                                    {kDO, writable(args.d_o)},
                                    {kStats, const_cast<float*>(args.stats)},
                                    {kDQ, args.dq},
                                    {kDK, args.dk},
                                    {kDV, args.dv},
                                    {kRowSums, row_sums},
                                    {kScale, &scale},
                                    {kOne, &one},
                                    {kMinusInfinity, &minus_infinity}};
  if (!deterministic_) {
    operands[kDQSums] = dq_sums;
    STRAIT_CUDA_CALL(cudaMemsetAsync(dq_sums, 0, static_cast<size_t>(dq_sums_bytes()), stream));
  }
  STRAIT_CUDNN_CALL(cudnnSetStream(handle_, stream));
  backward_.run(operands, dq_sums + dq_sums_bytes());
}

}  // namespace strait::cuda
