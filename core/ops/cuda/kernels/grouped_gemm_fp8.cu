#include <algorithm>

#include "core/ops/cuda/device.h"
#include "core/ops/cuda/grouped_gemm_fp8.h"
#include "core/ops/cuda/kernels/ptx.cuh"
//
#include "core/ops/cuda/kernels/grouped_gemm_fp8.cuh"
#include "core/ops/cuda/tensor_map.h"
#include "core/ops/math/scales.h"

namespace strait::cuda {
using namespace grouped_fp8;

namespace {

void require(bool condition, const char* what) {
  if (!condition) throw InternalError(std::string("[grouped_gemm_fp8] ") + what);
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), size_t shared_bytes, int num_sms, cudaStream_t stream,
            const Arguments&... arguments) {
  STRAIT_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(shared_bytes)));
  const int all = current_device().num_sms;
  cudaLaunchConfig_t how{};
  how.gridDim = dim3(static_cast<unsigned>(num_sms > 0 ? std::min(num_sms, all) : all));
  how.blockDim = dim3(kThreads);
  how.dynamicSmemBytes = shared_bytes;
  how.stream = stream;
  STRAIT_CUDA_CALL(cudaLaunchKernelEx(&how, kernel, arguments...));
}

}  // namespace

void grouped_gemm_fp8(const GroupedGemmFp8& gemm, cudaStream_t stream) {
  require(gemm.rows > 0 && gemm.rows % 4 == 0, "rows are a positive multiple of 4");
  require(gemm.n > 0 && gemm.n % 8 == 0, "n is a positive multiple of 8");
  require(gemm.k > 0 && gemm.k % 16 == 0, "k is a positive multiple of 16");
  const CUtensorMap x =
      make_tensor_map({TmaType::e4m3, gemm.x, gemm.rows, gemm.k, kTileM, kTileK, true});
  const CUtensorMap x_scales = make_tensor_map(
      {TmaType::f32, gemm.x_scales, ceil_div(gemm.k, kScaleBlock), gemm.rows, 1, kTileM, false});
  const CUtensorMap w = make_tensor_map(
      {TmaType::e4m3, gemm.w, gemm.experts * gemm.n, gemm.k, kGemmTileN, kTileK, true});
  const CUtensorMap y =
      make_tensor_map({TmaType::bf16, gemm.y, gemm.rows, gemm.n, kGroupRows, kBoxColumns, true});
  launch(gemm_kernel, sizeof(Shared<kGemmTileN>), gemm.num_sms, stream, x, x_scales, w, y,
         gemm.w_scales, gemm.block_expert, gemm.num_blocks, gemm_sizes(gemm.n, gemm.k));
}

void grouped_wgrad_fp8(const GroupedWgradFp8& gemm, cudaStream_t stream) {
  require(gemm.rows > 0 && gemm.rows % 16 == 0, "rows are a positive multiple of 16");
  require(gemm.m > 0 && gemm.m % 4 == 0, "m is a positive multiple of 4");
  require(gemm.n > 0 && gemm.n % 4 == 0, "n is a positive multiple of 4");
  const int64_t blocks = ceil_div(gemm.rows, kScaleBlock);
  const CUtensorMap dy =
      make_tensor_map({TmaType::e4m3, gemm.dy, gemm.m, gemm.rows, kTileM, kTileK, true});
  const CUtensorMap dy_scales =
      make_tensor_map({TmaType::f32, gemm.dy_scales, blocks, gemm.m, 1, kTileM, false});
  const CUtensorMap x =
      make_tensor_map({TmaType::e4m3, gemm.x, gemm.n, gemm.rows, kWgradTileN, kTileK, true});
  const CUtensorMap x_scales =
      make_tensor_map({TmaType::f32, gemm.x_scales, blocks, gemm.n, 1, kWgradTileN, false});
  const CUtensorMap dw = make_tensor_map(
      {TmaType::f32, gemm.dw, gemm.experts * gemm.m, gemm.n, kAddRows, kAddColumns, true});
  const WgradSizes sizes{static_cast<int>(gemm.m), static_cast<int>(gemm.n), gemm.experts};
  launch(wgrad_kernel, sizeof(Shared<kWgradTileN>), gemm.num_sms, stream, dy, dy_scales, x,
         x_scales, dw, gemm.first_block, gemm.end_block, sizes);
}

}  // namespace strait::cuda
