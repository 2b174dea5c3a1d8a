// tests/gpu/gpu_test.h: the start of a test that needs a Hopper GPU, and memory that is watched.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "core/ops/cuda/device.h"

namespace strait::cuda {

// Every test of a class derived from this one is skipped, with the reason, where it cannot run.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = why_not_hopper();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

template <class T>
Buffer upload(const std::vector<T>& host) {
  Buffer buffer(static_cast<int64_t>(host.size() * sizeof(T)));
  if (!host.empty()) {
    STRAIT_CUDA_CALL(
        cudaMemcpy(buffer.data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  return buffer;
}

// Waits for the device; an error of an earlier kernel is thrown here.
template <class T>
std::vector<T> download(const Buffer& buffer) {
  STRAIT_CUDA_CALL(cudaDeviceSynchronize());
  std::vector<T> host(static_cast<size_t>(buffer.bytes()) / sizeof(T));
  if (!host.empty()) {
    STRAIT_CUDA_CALL(
        cudaMemcpy(host.data(), buffer.data(), host.size() * sizeof(T), cudaMemcpyDeviceToHost));
  }
  return host;
}

// Memory whose every byte is 0xff (NaN as BF16, FP32 and E4M3): what a kernel did not write shows.
inline Buffer poisoned(int64_t bytes) {
  Buffer buffer(bytes);
  if (bytes > 0) STRAIT_CUDA_CALL(cudaMemset(buffer.data(), 0xff, static_cast<size_t>(bytes)));
  return buffer;
}

}  // namespace strait::cuda
