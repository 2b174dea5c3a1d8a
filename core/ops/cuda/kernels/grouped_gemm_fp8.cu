#include <algorithm>

#include "core/ops/cuda/device.h"
#include "core/ops/cuda/grouped_gemm_fp8.h"
#include "core/ops/cuda/kernels/ptx.cuh"
//
#include "core/ops/cuda/kernels/grouped_gemm_fp8.cuh"
#include "core/ops/cuda/scales.h"
#include "core/ops/cuda/tensor_map.h"

namespace strait::cuda {
using namespace grouped_fp8;

namespace {

void require(bool condition, const char* what) {
  if (!condition) throw InternalError(std::string("[grouped_gemm_fp8] ") + what);
}

int num_launch_blocks(const GroupedGemmConfig& config) {
  const int sms = current_device().num_sms;
  const int wanted = config.num_sms > 0 ? std::min(config.num_sms, sms) : sms;
  return std::max(wanted / config.blocks_sharing, 1) * config.blocks_sharing;
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int shared_bytes, const GroupedGemmConfig& config,
            cudaStream_t stream, const Arguments&... arguments) {
  STRAIT_CUDA_CALL(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(config.blocks_sharing);
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = dim3(static_cast<unsigned>(num_launch_blocks(config)));
  how.blockDim = dim3(kThreads);
  how.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  how.stream = stream;
  how.attrs = &cluster;
  how.numAttrs = 1;
  STRAIT_CUDA_CALL(cudaLaunchKernelEx(&how, kernel, arguments...));
}

template <int kSharing, int kTileN>
void run_gemm(const GroupedGemmFp8& gemm, const GroupedGemmConfig& config, cudaStream_t stream) {
  const CUtensorMap x =
      make_tensor_map({TmaType::e4m3, gemm.x, gemm.rows, gemm.k, kTileM / kSharing, kTileK, true});
  const CUtensorMap x_scales = make_tensor_map(
      {TmaType::f32, gemm.x_scales, ceil_div(gemm.k, kScaleBlock), gemm.rows, 1, kTileM, false});
  const CUtensorMap w =
      make_tensor_map({TmaType::e4m3, gemm.w, gemm.experts * gemm.n, gemm.k, kTileN, kTileK, true});
  const CUtensorMap y = make_tensor_map(
      {TmaType::bf16, gemm.y, gemm.rows, gemm.n, kGroupRows, kBoxColumns<kTileN>, true});
  const GemmSizes sizes = gemm_sizes<kSharing, kTileN>(gemm.n, gemm.k, config.strip_rows);
  launch(gemm_kernel<kSharing, kTileN>, sizeof(Shared<kTileN>), config, stream, x, x_scales, w, y,
         gemm.w_scales, gemm.block_expert, gemm.num_blocks, sizes);
}

template <int kSharing, int kTileN>
void run_wgrad(const GroupedWgradFp8& gemm, const GroupedGemmConfig& config, cudaStream_t stream) {
  const int64_t blocks = ceil_div(gemm.rows, kScaleBlock);
  const CUtensorMap dy =
      make_tensor_map({TmaType::e4m3, gemm.dy, gemm.m, gemm.rows, kTileM / kSharing, kTileK, true});
  const CUtensorMap dy_scales =
      make_tensor_map({TmaType::f32, gemm.dy_scales, blocks, gemm.m, 1, kTileM, false});
  const CUtensorMap x =
      make_tensor_map({TmaType::e4m3, gemm.x, gemm.n, gemm.rows, kTileN, kTileK, true});
  const CUtensorMap x_scales =
      make_tensor_map({TmaType::f32, gemm.x_scales, blocks, gemm.n, 1, kTileN, false});
  const CUtensorMap dw = make_tensor_map(
      {TmaType::f32, gemm.dw, gemm.experts * gemm.m, gemm.n, kAddRows, kAddColumns, true});
  const WgradSizes sizes{static_cast<int>(gemm.m), static_cast<int>(gemm.n), gemm.experts,
                         config.strip_rows};
  launch(wgrad_kernel<kSharing, kTileN>, sizeof(Shared<kTileN>), config, stream, dy, dy_scales, x,
         x_scales, dw, gemm.first_block, gemm.end_block, sizes);
}

// Calls run.operator()<blocks sharing, columns of a tile>().
template <class Run>
void for_config(const GroupedGemmConfig& config, const Run& run) {
  require(config.blocks_sharing == 1 || config.blocks_sharing == 2, "blocks_sharing is 1 or 2");
  const auto with_tile = [&]<int kTileN>() {
    if (config.blocks_sharing == 2) {
      run.template operator()<2, kTileN>();
    } else {
      run.template operator()<1, kTileN>();
    }
  };
  switch (config.tile_columns) {
    case 128:
      return with_tile.template operator()<128>();
    case 160:
      return with_tile.template operator()<160>();
    case 192:
      return with_tile.template operator()<192>();
    default:
      require(false, "tile_columns is 128, 160 or 192");
  }
}

}  // namespace

void grouped_gemm_fp8(const GroupedGemmFp8& gemm, const GroupedGemmConfig& config,
                      cudaStream_t stream) {
  require(gemm.rows > 0 && gemm.rows % 4 == 0, "rows are a positive multiple of 4");
  require(gemm.n > 0 && gemm.n % 8 == 0, "n is a positive multiple of 8");
  require(gemm.k > 0 && gemm.k % 16 == 0, "k is a positive multiple of 16");
  for_config(config,
             [&]<int kSharing, int kTileN>() { run_gemm<kSharing, kTileN>(gemm, config, stream); });
}

void grouped_wgrad_fp8(const GroupedWgradFp8& gemm, const GroupedGemmConfig& config,
                       cudaStream_t stream) {
  require(gemm.rows > 0 && gemm.rows % 16 == 0, "rows are a positive multiple of 16");
  require(gemm.m > 0 && gemm.m % 4 == 0, "m is a positive multiple of 4");
  require(gemm.n > 0 && gemm.n % 4 == 0, "n is a positive multiple of 4");
  for_config(config, [&]<int kSharing, int kTileN>() {
    run_wgrad<kSharing, kTileN>(gemm, config, stream);
  });
}

}  // namespace strait::cuda
