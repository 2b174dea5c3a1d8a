#include "core/ops/cuda/tensor_map.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <string>

#include "core/ops/cuda/device.h"

namespace strait::cuda {
namespace {

struct TypeInfo {
  CUtensorMapDataType type;
  int bytes;
};

TypeInfo info_of(TmaType type) {
  switch (type) {
    case TmaType::e4m3:
      return {CU_TENSOR_MAP_DATA_TYPE_UINT8, 1};
    case TmaType::bf16:
      return {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2};
    case TmaType::f32:
      return {CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4};
  }
  throw InternalError("[tensor_map] unknown type");
}

// Asked of the runtime, so that a binary does not need libcuda.so to start on a machine without a
// driver.
PFN_cuTensorMapEncodeTiled_v12000 encode_function() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  STRAIT_CUDA_CALL(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                    cudaEnableDefault, &found));
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw_device_error("cuTensorMapEncodeTiled", __FILE__, __LINE__,
                       "the driver has no such function");
  }
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

void require(bool condition, const std::string& what) {
  if (!condition) throw InternalError("[tensor_map] " + what);
}

}  // namespace

CUtensorMap make_tensor_map(const TmaMatrix& m) {
  const TypeInfo info = info_of(m.type);
  const int64_t row_bytes = m.cols * info.bytes;
  require(m.rows > 0 && m.cols > 0,
          "a matrix of " + std::to_string(m.rows) + " x " + std::to_string(m.cols));
  require(row_bytes % 16 == 0,
          "rows of " + std::to_string(row_bytes) + " bytes; TMA takes multiples of 16");
  require(reinterpret_cast<uintptr_t>(m.data) % 16 == 0, "data not at a multiple of 16 bytes");
  require(m.box_rows >= 1 && m.box_rows <= 256 && m.box_cols >= 1 && m.box_cols <= 256,
          "a box of " + std::to_string(m.box_rows) + " x " + std::to_string(m.box_cols));
  const int box_row_bytes = m.box_cols * info.bytes;
  require(!m.swizzle || box_row_bytes == 128 || box_row_bytes == 64,
          "a swizzled box row of " + std::to_string(box_row_bytes) + " bytes; it takes 64 or 128");
  const CUtensorMapSwizzle swizzle = !m.swizzle             ? CU_TENSOR_MAP_SWIZZLE_NONE
                                     : box_row_bytes == 128 ? CU_TENSOR_MAP_SWIZZLE_128B
                                                            : CU_TENSOR_MAP_SWIZZLE_64B;

  static const PFN_cuTensorMapEncodeTiled_v12000 encode = encode_function();
  CUtensorMap map{};
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(m.cols), static_cast<cuuint64_t>(m.rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(row_bytes)};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(m.box_cols),
                             static_cast<cuuint32_t>(m.box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  const CUresult status =
      encode(&map, info.type, 2, const_cast<void*>(m.data), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw_device_error("cuTensorMapEncodeTiled", __FILE__, __LINE__,
                       "driver error " + std::to_string(status));
  }
  return map;
}

}  // namespace strait::cuda
