#include "core/ops/cuda/device.h"

namespace strait::cuda {

void throw_device_error(const char* call, const char* file, int line, const std::string& reason) {
  throw DeviceError(std::string("[cuda] ") + reason + ": " + call + " (" + file + ":" +
                    std::to_string(line) + ")");
}

Device current_device() {
  int index = 0;
  STRAIT_CUDA_CALL(cudaGetDevice(&index));
  cudaDeviceProp properties{};
  STRAIT_CUDA_CALL(cudaGetDeviceProperties(&properties, index));
  Device device;
  device.name = properties.name;
  device.major = properties.major;
  device.minor = properties.minor;
  device.num_sms = properties.multiProcessorCount;
  device.shared_bytes_per_block = static_cast<int>(properties.sharedMemPerBlockOptin);
  device.l2_bytes = properties.l2CacheSize;
  device.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  STRAIT_CUDA_CALL(cudaDriverGetVersion(&device.driver_version));
  STRAIT_CUDA_CALL(cudaRuntimeGetVersion(&device.runtime_version));
  return device;
}

std::string why_not_hopper() {
  int num_devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&num_devices);
  if (status != cudaSuccess) {
    cudaGetLastError();  // this error is answered here, not at the next launch
    return std::string("no CUDA device: ") + cudaGetErrorString(status);
  }
  if (num_devices == 0) return "no CUDA device";
  const Device device = current_device();
  if (device.is_hopper()) return "";
  return device.name + " has compute capability " + std::to_string(device.major) + "." +
         std::to_string(device.minor) + ", and these kernels are for 9.0 (Hopper)";
}

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  if (bytes > 0) STRAIT_CUDA_CALL(cudaMalloc(&data_, static_cast<size_t>(bytes)));
}

Buffer::~Buffer() {
  if (data_ != nullptr) cudaFree(data_);  // at exit the runtime may be gone already: nobody to tell
}

}  // namespace strait::cuda
