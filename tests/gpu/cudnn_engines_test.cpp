// Asks cuDNN which engines a Hopper chip has for attention; needs no GPU, because the chip's
// properties are given as text. Skips itself where cuDNN refuses to answer without a driver.
#include <gtest/gtest.h>

#include "core/ops/cuda/attention.h"

namespace strait::cuda {
namespace {

CudnnDescriptor h200_properties() {
  static const char text[] =
      R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)"
      R"("multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,)"
      R"("maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,)"
      R"("maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,)"
      R"("maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,)"
      R"("totalGlobalMem":150754820096,"smClockRateKHz":1980000,"memClockRateKHz":3201000,)"
      R"("l2CacheSize":62914560,"cudaDeviceId":0,"deviceVer":900,"driverVer":13000,)"
      R"("deviceName":"NVIDIA H200"})";
  CudnnDescriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  properties.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, text, sizeof text)
      .finalize();
  return properties;
}

size_t engines(CudnnGraph graph) {
  const CudnnDescriptor properties = h200_properties();
  return graph.engines(nullptr, &properties).size();
}

TEST(CudnnEngines, HopperHasThemForAttention) {
  for (const AttentionShape& s :
       {AttentionShape{1, 16, 4096, 192, 128}, AttentionShape{2, 128, 4096, 192, 128},
        AttentionShape{1, 4, 100, 192, 128}, AttentionShape{1, 4, 64, 24, 16}}) {
    const std::string name = std::to_string(s.heads) + " heads, " + std::to_string(s.length) +
                             " tokens, " + std::to_string(s.qk_dim);
    EXPECT_GT(engines(attention_forward_graph(s)), 0u) << name;
    EXPECT_GT(engines(attention_backward_graph(s, false)), 0u) << name;
    EXPECT_GT(engines(attention_backward_graph(s, true)), 0u) << name;
  }
}

// The absorbed form of latent attention cannot be trained through cuDNN.
TEST(CudnnEngines, NoneForBackwardOfWideHeads) {
  const AttentionShape wide{1, 16, 4096, 576, 512};
  EXPECT_GT(engines(attention_forward_graph(wide)), 0u);
  EXPECT_EQ(engines(attention_backward_graph(wide, false)), 0u);
}

}  // namespace
}  // namespace strait::cuda
