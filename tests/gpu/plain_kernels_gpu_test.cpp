// The tests of plain kernels run on a device.
#include "core/ops/cuda/device.h"
#include "tests/gpu/kernel_test.h"

namespace strait::cuda {

std::string why_no_kernels() {
  int num_devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&num_devices);
  cudaGetLastError();  // this error is answered here, not at the next launch
  if (status != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(status);
  return num_devices == 0 ? "no CUDA device" : "";
}

}  // namespace strait::cuda
