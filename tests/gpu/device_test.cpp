#include "core/ops/cuda/device.h"

#include "tests/gpu/gpu_test.h"

namespace strait::cuda {
namespace {

TEST(DeviceError, NamesCallFileLineAndReason) {
  try {
    STRAIT_CUDA_CALL(cudaErrorInvalidValue);
    FAIL() << "nothing was thrown";
  } catch (const DeviceError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("invalid argument: cudaErrorInvalidValue ("), std::string::npos) << text;
    EXPECT_NE(text.find("device_test.cpp:"), std::string::npos) << text;
  }
}

TEST(Buffer, OfNoBytesNeedsNoDevice) { EXPECT_EQ(Buffer(0).data(), nullptr); }

class DeviceOnGpu : public GpuTest {};

TEST_F(DeviceOnGpu, SaysWhatItIs) {
  const Device device = current_device();
  EXPECT_TRUE(device.is_hopper());
  EXPECT_GE(device.shared_bytes_per_block, 227 * 1024);
  RecordProperty("device", device.name);
  std::printf("%s, %d SMs, %lld MiB, driver %d, runtime %d\n", device.name.c_str(), device.num_sms,
              static_cast<long long>(device.memory_bytes >> 20), device.driver_version,
              device.runtime_version);
}

TEST_F(DeviceOnGpu, BufferKeepsWhatIsCopiedIn) {
  const std::vector<int> host = {1, 2, 3};
  EXPECT_EQ(download<int>(upload(host)), host);
}

}  // namespace
}  // namespace strait::cuda
