#include "core/ops/cuda/cudnn_graph.h"

#include <string>
#include <utility>

namespace strait::cuda {

void throw_cudnn_error(cudnnStatus_t status, const char* call, const char* file, int line) {
  char last[1024] = "";
  cudnnGetLastErrorString(last, sizeof last);
  throw_device_error(call, file, line, std::string(cudnnGetErrorString(status)) + ": " + last);
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t descriptor = nullptr;
  STRAIT_CUDNN_CALL(cudnnBackendCreateDescriptor(type, &descriptor));
  descriptor_.reset(descriptor, [](void* d) { cudnnBackendDestroyDescriptor(d); });
}

CudnnDescriptor& CudnnDescriptor::set_raw(cudnnBackendAttributeName_t name,
                                          cudnnBackendAttributeType_t type, int64_t count,
                                          const void* values) {
  STRAIT_CUDNN_CALL(cudnnBackendSetAttribute(get(), name, type, count, values));
  return *this;
}

CudnnDescriptor& CudnnDescriptor::set(cudnnBackendAttributeName_t name,
                                      const CudnnDescriptor& value) {
  const cudnnBackendDescriptor_t descriptor = value.get();
  return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, &descriptor);
}

CudnnDescriptor& CudnnDescriptor::finalize() {
  STRAIT_CUDNN_CALL(cudnnBackendFinalize(get()));
  return *this;
}

namespace {

CudnnDims rows_outermost(const CudnnDims& dims) {
  return {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1};
}

constexpr cudnnDataType_t kMathType = CUDNN_DATA_FLOAT;

}  // namespace

CudnnTensor CudnnGraph::tensor(int64_t uid, CudnnDims dims, CudnnDims strides, cudnnDataType_t type,
                               bool in_memory, bool by_value) {
  const bool is_virtual = !in_memory;
  constexpr int64_t kAlignment = 16;
  CudnnDescriptor descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  descriptor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, &type)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims.data(), 4)
      .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides.data(), 4)
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, &uid)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, &kAlignment)
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, &is_virtual)
      .set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, &by_value)
      .finalize();
  return {descriptor, dims};
}

CudnnTensor CudnnGraph::memory(int64_t uid, CudnnDims dims, CudnnDims strides,
                               cudnnDataType_t type) {
  return tensor(uid, dims, strides, type, true, false);
}
CudnnTensor CudnnGraph::scalar(int64_t uid) {
  return tensor(uid, {1, 1, 1, 1}, {1, 1, 1, 1}, kMathType, true, true);
}
CudnnTensor CudnnGraph::value(CudnnDims dims, cudnnDataType_t type) {
  return value(dims, rows_outermost(dims), type);
}
CudnnTensor CudnnGraph::value(CudnnDims dims, CudnnDims strides, cudnnDataType_t type) {
  return tensor(next_value_++, dims, strides, type, false, false);
}

void CudnnGraph::add(cudnnBackendDescriptorType_t type, const std::vector<Operand>& operands) {
  CudnnDescriptor operation(type);
  for (const Operand& operand : operands) operation.set(operand.name, operand.descriptor);
  operations_.push_back(operation.finalize());
}

CudnnTensor CudnnGraph::matmul(const CudnnTensor& a, const CudnnTensor& b, const CudnnTensor& out) {
  CudnnDescriptor math(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  math.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, &kMathType).finalize();
  add(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
      {{CUDNN_ATTR_OPERATION_MATMUL_ADESC, a.descriptor},
       {CUDNN_ATTR_OPERATION_MATMUL_BDESC, b.descriptor},
       {CUDNN_ATTR_OPERATION_MATMUL_CDESC, out.descriptor},
       {CUDNN_ATTR_OPERATION_MATMUL_DESC, math}});
  return out;
}

CudnnTensor CudnnGraph::pointwise(cudnnPointwiseMode_t mode, int64_t axis,
                                  std::vector<Operand> operands, const CudnnTensor& out) {
  CudnnDescriptor math(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  math.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, &mode)
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, &kMathType);
  if (axis >= 0) math.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, &axis);
  operands.push_back({CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, math.finalize()});
  operands.push_back({CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out.descriptor});
  add(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, operands);
  return out;
}

CudnnTensor CudnnGraph::map(cudnnPointwiseMode_t mode, const CudnnTensor& x,
                            const CudnnTensor& out) {
  return pointwise(mode, -1, {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x.descriptor}}, out);
}
CudnnTensor CudnnGraph::map(cudnnPointwiseMode_t mode, const CudnnTensor& x, const CudnnTensor& y,
                            const CudnnTensor& out) {
  return pointwise(mode, -1,
                   {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x.descriptor},
                    {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, y.descriptor}},
                   out);
}
CudnnTensor CudnnGraph::select(const CudnnTensor& where, const CudnnTensor& x,
                               const CudnnTensor& otherwise, const CudnnTensor& out) {
  return pointwise(CUDNN_POINTWISE_BINARY_SELECT, -1,
                   {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x.descriptor},
                    {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, otherwise.descriptor},
                    {CUDNN_ATTR_OPERATION_POINTWISE_TDESC, where.descriptor}},
                   out);
}
CudnnTensor CudnnGraph::index(const CudnnTensor& like, int64_t axis, const CudnnTensor& out) {
  return pointwise(CUDNN_POINTWISE_GEN_INDEX, axis,
                   {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, like.descriptor}}, out);
}

CudnnTensor CudnnGraph::reduce(cudnnReduceTensorOp_t operation, const CudnnTensor& x,
                               const CudnnTensor& out) {
  CudnnDescriptor math(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  math.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, &operation)
      .set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, &kMathType)
      .finalize();
  add(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
      {{CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x.descriptor},
       {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, out.descriptor},
       {CUDNN_ATTR_OPERATION_REDUCTION_DESC, math}});
  return out;
}

CudnnTensor CudnnGraph::reshape(const CudnnTensor& x, const CudnnTensor& out) {
  add(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
      {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x.descriptor},
       {CUDNN_ATTR_OPERATION_RESHAPE_YDESC, out.descriptor}});
  return out;
}

std::vector<CudnnDescriptor> CudnnGraph::engines(cudnnHandle_t handle,
                                                 const CudnnDescriptor* device_properties) {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const CudnnDescriptor& operation : operations_) operations.push_back(operation.get());
  CudnnDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations.data(),
            static_cast<int64_t>(operations.size()));
  if (handle != nullptr) {
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, &handle);
  }
  graph.finalize();

  constexpr cudnnBackendHeurMode_t kMode = CUDNN_HEUR_MODE_A;
  CudnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph)
      .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, &kMode);
  if (device_properties != nullptr) {
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *device_properties);
  }
  if (cudnnBackendFinalize(heuristics.get()) != CUDNN_STATUS_SUCCESS) return {};

  int64_t count = 0;
  STRAIT_CUDNN_CALL(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                             CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr));
  std::vector<CudnnDescriptor> configurations;
  std::vector<cudnnBackendDescriptor_t> results;
  for (int64_t i = 0; i < count; ++i) {
    configurations.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    results.push_back(configurations.back().get());
  }
  STRAIT_CUDNN_CALL(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                             CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count,
                                             results.data()));
  configurations.erase(configurations.begin() + count, configurations.end());
  return configurations;
}

CudnnPlan::CudnnPlan(cudnnHandle_t handle, CudnnGraph& graph)
    : handle_(handle), plan_(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
  for (const CudnnDescriptor& configuration : graph.engines(handle)) {
    CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, &handle)
        .set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    if (cudnnBackendFinalize(plan.get()) != CUDNN_STATUS_SUCCESS) continue;
    int64_t count = 0;
    STRAIT_CUDNN_CALL(cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                               CUDNN_TYPE_INT64, 1, &count, &workspace_bytes_));
    plan_ = std::move(plan);
    return;
  }
  throw DeviceError("cuDNN has no engine for this operation graph on this device");
}

void CudnnPlan::run(const std::map<int64_t, void*>& operands, void* workspace) const {
  std::vector<int64_t> uids;
  std::vector<void*> pointers;
  for (const auto& [uid, pointer] : operands) {
    uids.push_back(uid);
    pointers.push_back(pointer);
  }
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, uids.data(),
           static_cast<int64_t>(uids.size()))
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers.data(),
           static_cast<int64_t>(pointers.size()))
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, &workspace)
      .finalize();
  STRAIT_CUDNN_CALL(cudnnBackendExecute(handle_, plan_.get(), pack.get()));
}

}  // namespace strait::cuda
