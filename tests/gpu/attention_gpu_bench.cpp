// Speed of causal attention on the shapes of DeepSeek-V3 and smaller ones, through cuDNN.
//   attention_gpu_bench DIR
// TFLOP/s of the products that the mask leaves; on random data.
#include <cstdio>
#include <string>

#include "core/ops/cuda/attention.h"
#include "tests/gpu/attention_data.h"
#include "tests/gpu/bench_time.h"

namespace strait::cuda {
namespace {

void bench(BenchTable& table, cudnnHandle_t handle, const AttentionShape& s, bool deterministic) {
  const std::string what = "b" + std::to_string(s.batch) + " h" + std::to_string(s.heads) + " s" +
                           std::to_string(s.length) + " " + std::to_string(s.qk_dim) + "/" +
                           std::to_string(s.v_dim);
  const std::string how = deterministic ? "cuDNN, deterministic" : "cuDNN";
  try {
    const CudnnAttention attention(handle, s, deterministic);
    const AttentionData data(s);
    const AttentionOnDevice device(data);
    const Buffer scratch(attention.scratch_bytes());
    const double forward =
        median_ms([&](int) { attention.forward(device.forward(), scratch.data(), nullptr); });
    const double backward =
        median_ms([&](int) { attention.backward(device.backward(), scratch.data(), nullptr); });
    const auto tflops = [](int64_t flops, double ms) { return double(flops) / ms / 1e9; };
    if (!deterministic) {
      table.row(what + " forward", how, tflops(s.forward_flops(), forward), "TFLOP/s");
      table.row(what + " forward", how, forward, "ms");
    }
    table.row(what + " backward", how, tflops(s.backward_flops(), backward), "TFLOP/s");
    table.row(what + " backward", how, backward, "ms");
    table.row(what + " scratch", how, double(attention.scratch_bytes()) / (1 << 20), "MiB");
  } catch (const DeviceError& error) {
    std::printf("%s, %s: %s\n", what.c_str(), how.c_str(), error.what());
  }
}

int run(const std::string& folder) {
  cudnnHandle_t handle = nullptr;
  STRAIT_CUDNN_CALL(cudnnCreate(&handle));
  BenchTable table(folder, "attention");
  for (const AttentionShape& s :
       {AttentionShape{1, 128, 4096, 192, 128}, AttentionShape{1, 128, 2048, 192, 128},
        AttentionShape{2, 16, 4096, 192, 128}})
    for (const bool deterministic : {false, true}) bench(table, handle, s, deterministic);
  cudnnDestroy(handle);
  return 0;
}

}  // namespace
}  // namespace strait::cuda

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: attention_gpu_bench DIR\n", stderr);
    return 2;
  }
  try {
    return strait::cuda::run(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "attention_gpu_bench: %s\n", error.what());
    return 1;
  }
}
