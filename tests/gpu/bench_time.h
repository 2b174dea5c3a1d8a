// tests/gpu/bench_time.h: how long launches take on the device, and the table of a benchmark.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "core/ops/cuda/device.h"

namespace strait::cuda {

// Milliseconds of one launch on `stream`: the median of `launches`, after a few to warm up. The
// argument of `launch` counts launches, so that each can take other operands than the one before.
inline double median_ms(const std::function<void(int)>& launch, cudaStream_t stream = nullptr,
                        int launches = 20) {
  constexpr int kWarmups = 3;
  for (int i = 0; i < kWarmups; ++i) launch(i);
  std::vector<cudaEvent_t> events(static_cast<size_t>(launches) + 1);
  for (cudaEvent_t& event : events) STRAIT_CUDA_CALL(cudaEventCreate(&event));
  STRAIT_CUDA_CALL(cudaEventRecord(events[0], stream));
  for (size_t i = 1; i < events.size(); ++i) {
    launch(static_cast<int>(i) - 1);
    STRAIT_CUDA_CALL(cudaEventRecord(events[i], stream));
  }
  STRAIT_CUDA_CALL(cudaDeviceSynchronize());
  std::vector<float> times(static_cast<size_t>(launches));
  for (size_t i = 0; i < times.size(); ++i)
    STRAIT_CUDA_CALL(cudaEventElapsedTime(&times[i], events[i], events[i + 1]));
  for (const cudaEvent_t event : events) cudaEventDestroy(event);
  std::nth_element(times.begin(), times.begin() + launches / 2, times.end());
  return times[static_cast<size_t>(launches) / 2];
}

// Rows of (what, how, figure, unit): on standard output, in DIR/<name>.md and, one JSON object a
// line, in DIR/<name>.jsonl. Written row by row: a stopped run keeps what it measured.
class BenchTable {
 public:
  BenchTable(const std::string& folder, const std::string& name)
      : markdown_(std::fopen((folder + "/" + name + ".md").c_str(), "w")),
        json_(std::fopen((folder + "/" + name + ".jsonl").c_str(), "w")),
        name_(name) {
    if (markdown_ == nullptr || json_ == nullptr) throw DeviceError("cannot write into " + folder);
    text("\n### " + name + "\n\n| what | how | figure | unit |\n|---|---|---|---|\n");
  }
  ~BenchTable() {
    std::fclose(markdown_);
    std::fclose(json_);
  }
  BenchTable(const BenchTable&) = delete;
  BenchTable& operator=(const BenchTable&) = delete;

  void row(const std::string& what, const std::string& how, double figure,
           const std::string& unit) {
    char number[32];
    std::snprintf(number, sizeof number, "%.4g", figure);
    text("| " + what + " | " + how + " | " + number + " | " + unit + " |\n");
    std::fprintf(
        json_,
        "{\"part\": \"%s\", \"what\": \"%s\", \"how\": \"%s\", \"figure\": %s, \"unit\": \"%s\"}\n",
        name_.c_str(), what.c_str(), how.c_str(), number, unit.c_str());
    std::fflush(json_);
  }

 private:
  void text(const std::string& line) {
    std::fputs(line.c_str(), stdout);
    std::fputs(line.c_str(), markdown_);
    std::fflush(stdout);
    std::fflush(markdown_);
  }

  std::FILE *markdown_, *json_;
  std::string name_;
};

}  // namespace strait::cuda
