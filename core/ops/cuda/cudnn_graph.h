// core/ops/cuda/cudnn_graph.h: a small builder of cuDNN operation graphs over its C backend API,
// and the plan that runs one. As much as attention needs; errors are DeviceError with cuDNN's
// reason.
#pragma once

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "core/ops/cuda/device.h"

namespace strait::cuda {

// A backend descriptor, shared between its users.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);

  template <class T>
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       const T* values, int64_t count = 1) {
    return set_raw(name, type, count, values);
  }
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value);
  CudnnDescriptor& finalize();
  cudnnBackendDescriptor_t get() const { return descriptor_.get(); }

 private:
  CudnnDescriptor& set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                           int64_t count, const void* values);

  std::shared_ptr<void> descriptor_;
};

// Batch, head, row, column, whatever the order in memory is.
using CudnnDims = std::array<int64_t, 4>;

struct CudnnTensor {
  CudnnDescriptor descriptor;
  CudnnDims dims{};
};

class CudnnGraph {
 public:
  // A tensor in memory, bound by its uid (1 to 999) when the plan runs.
  CudnnTensor memory(int64_t uid, CudnnDims dims, CudnnDims strides, cudnnDataType_t type);
  // One FP32 number, read from the host when the plan runs.
  CudnnTensor scalar(int64_t uid);
  // A value that exists only inside the graph, rows outermost unless strides are given.
  CudnnTensor value(CudnnDims dims, cudnnDataType_t type = CUDNN_DATA_FLOAT);
  CudnnTensor value(CudnnDims dims, CudnnDims strides, cudnnDataType_t type);

  // Each adds one operation that writes `out`, and returns it.
  CudnnTensor matmul(const CudnnTensor& a, const CudnnTensor& b, const CudnnTensor& out);
  CudnnTensor map(cudnnPointwiseMode_t mode, const CudnnTensor& x, const CudnnTensor& out);
  CudnnTensor map(cudnnPointwiseMode_t mode, const CudnnTensor& x, const CudnnTensor& y,
                  const CudnnTensor& out);
  CudnnTensor select(const CudnnTensor& where, const CudnnTensor& x, const CudnnTensor& otherwise,
                     const CudnnTensor& out);
  CudnnTensor index(const CudnnTensor& like, int64_t axis, const CudnnTensor& out);
  CudnnTensor reduce(cudnnReduceTensorOp_t operation, const CudnnTensor& x, const CudnnTensor& out);
  CudnnTensor reshape(const CudnnTensor& x, const CudnnTensor& out);

  // Configurations of engines that cuDNN's heuristics name, best first; none if it refuses. For the
  // device of `handle`, or, where that is null, for a device described by properties.
  std::vector<CudnnDescriptor> engines(cudnnHandle_t handle,
                                       const CudnnDescriptor* device_properties = nullptr);

 private:
  struct Operand {
    cudnnBackendAttributeName_t name;
    CudnnDescriptor descriptor;
  };
  CudnnTensor tensor(int64_t uid, CudnnDims dims, CudnnDims strides, cudnnDataType_t type,
                     bool in_memory, bool by_value);
  void add(cudnnBackendDescriptorType_t type, const std::vector<Operand>& operands);
  CudnnTensor pointwise(cudnnPointwiseMode_t mode, int64_t axis, std::vector<Operand> operands,
                        const CudnnTensor& out);

  std::vector<CudnnDescriptor> operations_;
  int64_t next_value_ = 1000;
};

// A graph made ready for one device.
class CudnnPlan {
 public:
  // The first engine configuration that can be made ready. Throws if there is none.
  CudnnPlan(cudnnHandle_t handle, CudnnGraph& graph);

  int64_t workspace_bytes() const { return workspace_bytes_; }
  // uid -> device pointer (of a scalar: pointer to a float of the host). Runs on the handle's
  // stream.
  void run(const std::map<int64_t, void*>& operands, void* workspace) const;

 private:
  cudnnHandle_t handle_;
  CudnnDescriptor plan_;
  int64_t workspace_bytes_ = 0;
};

[[noreturn]] void throw_cudnn_error(cudnnStatus_t status, const char* call, const char* file,
                                    int line);

}  // namespace strait::cuda

// Runs a call of cuDNN; throws DeviceError unless it succeeds.
#define STRAIT_CUDNN_CALL(call)                                                    \
  do {                                                                             \
    const cudnnStatus_t strait_status = (call);                                    \
    if (strait_status != CUDNN_STATUS_SUCCESS) [[unlikely]]                        \
      ::strait::cuda::throw_cudnn_error(strait_status, #call, __FILE__, __LINE__); \
  } while (0)
