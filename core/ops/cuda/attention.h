// core/ops/cuda/attention.h: causal attention of whole sequences, BF16, on a GPU. Through cuDNN,
// and as plain kernels: the reference, and the way for shapes that cuDNN refuses.
//
// In memory: Q, K, dQ, dK [batch, length, heads, qk_dim]; V, O, dO, dV [batch, length, heads,
// v_dim], all BF16; stats [batch, heads, length] FP32, the logarithm of each row's sum of
// exponentials. Query i sees keys 0 to i. Scores are scale * Q K^T.
#pragma once

#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <cstdint>
#include <optional>

#include "core/ops/cuda/cudnn_graph.h"

namespace strait::cuda {

struct AttentionShape {
  int64_t batch = 1, heads = 1, length = 1;
  int64_t qk_dim = 192, v_dim = 128;  // multiples of 8, at most 256

  // Of the products of the forward pass, half of each masked away; backward takes 5 / 2 of it at
  // equal dims: S and dP again, dQ, dK, dV.
  int64_t forward_flops() const { return batch * heads * length * length * (qk_dim + v_dim); }
  int64_t backward_flops() const {
    return batch * heads * length * length * (3 * qk_dim + 2 * v_dim);
  }
};

struct AttentionForwardArgs {
  const void *q, *k, *v;
  void* o;
  float* stats;
  float scale;
};

struct AttentionBackwardArgs {
  const void *q, *k, *v, *o, *d_o;
  const float* stats;
  void *dq, *dk, *dv;
  float scale;
};

// Operation graphs, for CudnnPlan or to ask which engines a device has. `deterministic`: dQ is
// summed in a fixed order, for a workspace of O(batch heads length^2); otherwise by atomic adds.
CudnnGraph attention_forward_graph(const AttentionShape& shape);
CudnnGraph attention_backward_graph(const AttentionShape& shape, bool deterministic);

// Forward and backward of one shape through cuDNN. Throws DeviceError where cuDNN has no engine.
class CudnnAttention {
 public:
  CudnnAttention(cudnnHandle_t handle, const AttentionShape& shape, bool deterministic);

  // What `scratch` must hold, for whichever pass takes more.
  int64_t scratch_bytes() const;
  void forward(const AttentionForwardArgs& args, void* scratch, cudaStream_t stream) const;
  void backward(const AttentionBackwardArgs& args, void* scratch, cudaStream_t stream) const;

 private:
  int64_t row_sums_bytes() const;
  int64_t dq_sums_bytes() const;

  cudnnHandle_t handle_;
  AttentionShape shape_;
  bool deterministic_;
  CudnnPlan forward_, backward_;
};

// The plain kernels: FP32 throughout, one warp a row, the same bits every time. `row_dots`, scratch
// of the backward pass: [batch, heads, length] FP32.
void attention_forward_plain(const AttentionShape& shape, const AttentionForwardArgs& args,
                             cudaStream_t stream);
void attention_backward_plain(const AttentionShape& shape, const AttentionBackwardArgs& args,
                              float* row_dots, cudaStream_t stream);

}  // namespace strait::cuda
