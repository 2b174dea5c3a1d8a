// core/ops/cuda/device.h: what every CUDA file needs of the runtime: calls that throw, the device's
// limits, owned memory. All of it speaks of the calling thread's current device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/errors.h"

namespace strait::cuda {

// A call of CUDA, cuBLASLt or cuDNN failed: the message names the call, its file and line, and the
// library's reason.
class DeviceError : public Error {
 public:
  using Error::Error;
};

[[noreturn]] void throw_device_error(const char* call, const char* file, int line,
                                     const std::string& reason);

// The current device.
struct Device {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int num_sms = 0;
  int shared_bytes_per_block = 0;  // with opt-in
  int64_t l2_bytes = 0, memory_bytes = 0;
  int driver_version = 0, runtime_version = 0;  // 13000 is 13.0

  bool is_hopper() const { return major == 9 && minor == 0; }
};

// Throws DeviceError where no driver or no device is.
Device current_device();

// Why FP8 kernels cannot run here ("no CUDA device: ..."), or an empty string. Never throws.
std::string why_not_hopper();

// Device memory, uninitialised.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes);
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace strait::cuda

// Runs a call of the CUDA runtime; throws DeviceError unless it returns cudaSuccess.
#define STRAIT_CUDA_CALL(call)                                                 \
  do {                                                                         \
    const cudaError_t strait_status = (call);                                  \
    if (strait_status != cudaSuccess) [[unlikely]]                             \
      ::strait::cuda::throw_device_error(#call, __FILE__, __LINE__,            \
                                         ::cudaGetErrorString(strait_status)); \
  } while (0)
