// The tests of plain kernels run on the CPU: the kernels' own source, on fibers, and what else
// these tests need of CUDA's runtime.
#include "tests/gpu/fiber_launch.h"
//
#include <cstdlib>

#include "core/ops/cuda/kernels/adamw.cu"
#include "core/ops/cuda/kernels/cross_entropy.cu"
#include "core/ops/cuda/kernels/elementwise.cu"
#include "core/ops/cuda/kernels/embedding.cu"
#include "core/ops/cuda/kernels/expert_blocks.cuh"
#include "core/ops/cuda/kernels/permute.cu"
#include "core/ops/cuda/kernels/rms_norm.cu"
#include "core/ops/cuda/kernels/rope.cu"
#include "core/ops/cuda/kernels/router.cu"
#include "core/ops/cuda/kernels/swiglu.cu"
#include "tests/gpu/kernel_test.h"

namespace strait::cuda {

std::string why_no_kernels() { return ""; }

void throw_device_error(const char* call, const char*, int, const std::string& reason) {
  throw DeviceError(std::string(call) + ": " + reason);
}

void find_expert_blocks(const ExpertBlocks& call, cudaStream_t stream) {
  STRAIT_LAUNCH(expert_blocks_kernel, 1, kMaxExperts, stream, call);
}

Buffer::Buffer(int64_t bytes) : data_(std::malloc(static_cast<size_t>(bytes))), bytes_(bytes) {}
Buffer::~Buffer() { std::free(data_); }

}  // namespace strait::cuda

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "an error on fibers"; }
