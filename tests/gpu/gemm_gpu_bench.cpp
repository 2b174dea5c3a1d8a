// Speed of the matrix products on the shapes of DeepSeek-V3, in TFLOP/s: the median of 20 launches
// after 3, on random data, each launch on other operands than the one before it.
//   gemm_gpu_bench DIR [dense] [wgrad] [grouped] [grouped_wgrad] [sms] [quantize]
// Prints a Markdown table, and writes it and one JSON object a line to DIR/gemm_<part>.md and
// .jsonl, row by row.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/ops/cuda/device.h"
#include "core/ops/cuda/gemm_lt.h"
#include "core/ops/cuda/grouped_gemm_fp8.h"
#include "core/ops/cuda/quantize.h"
#include "core/ops/math/fp8.h"

namespace strait::cuda {
namespace {

constexpr int kWarmups = 3, kLaunches = 20, kOperandSets = 3;

// Device memory that repeats `pattern`.
template <class T>
Buffer filled(int64_t bytes, const std::vector<T>& pattern) {
  Buffer buffer(bytes);
  auto* data = buffer.as<uint8_t>();
  const int64_t first = std::min<int64_t>(bytes, static_cast<int64_t>(pattern.size() * sizeof(T)));
  STRAIT_CUDA_CALL(cudaMemcpy(data, pattern.data(), first, cudaMemcpyHostToDevice));
  for (int64_t done = first; done < bytes; done *= 2) {
    STRAIT_CUDA_CALL(
        cudaMemcpy(data + done, data, std::min(done, bytes - done), cudaMemcpyDeviceToDevice));
  }
  return buffer;
}

// Random operands of every product: sets are places in these.
struct Operands {
  static constexpr int64_t kBytes = int64_t{1200} << 20;
  Buffer fp8, bf16, scales, results;

  Operands() {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    constexpr size_t kPattern = (1 << 20) + 4096;  // not a divisor of a matrix
    std::vector<uint8_t> codes(kPattern);
    std::vector<uint16_t> halves(kPattern);
    std::vector<float> factors(kPattern);
    for (auto& code : codes) code = to_e4m3(100 * normal(engine));
    for (auto& half : halves) half = to_bfloat16(normal(engine)).bits;
    for (auto& factor : factors) factor = 0.005f + 1e-5f * static_cast<float>(engine() % 1000);
    fp8 = filled(kBytes, codes);
    bf16 = filled(2 * kBytes, halves);
    scales = filled(int64_t{64} << 20, factors);
    results = Buffer(int64_t{2} << 30);
    STRAIT_CUDA_CALL(cudaMemset(results.data(), 0, results.bytes()));
  }
};

double median_ms(const std::function<void(int)>& launch) {
  for (int i = 0; i < kWarmups; i++) launch(i % kOperandSets);
  std::vector<cudaEvent_t> events(kLaunches + 1);
  for (auto& event : events) STRAIT_CUDA_CALL(cudaEventCreate(&event));
  STRAIT_CUDA_CALL(cudaEventRecord(events[0], nullptr));
  for (int i = 0; i < kLaunches; i++) {
    launch(i % kOperandSets);
    STRAIT_CUDA_CALL(cudaEventRecord(events[i + 1], nullptr));
  }
  STRAIT_CUDA_CALL(cudaDeviceSynchronize());
  std::vector<float> times(kLaunches);
  for (int i = 0; i < kLaunches; i++)
    STRAIT_CUDA_CALL(cudaEventElapsedTime(&times[i], events[i], events[i + 1]));
  for (auto& event : events) cudaEventDestroy(event);
  std::nth_element(times.begin(), times.begin() + kLaunches / 2, times.end());
  return times[kLaunches / 2];
}

class Report {
 public:
  Report(const std::string& folder, const std::string& part, const char* unit)
      : part_(part), unit_(unit) {
    markdown_ = open(folder + "/gemm_" + part + ".md");
    json_ = open(folder + "/gemm_" + part + ".jsonl");
    both("\n### %s\n\n| product | how | ms | %s |\n|---|---|---|---|\n", part.c_str(), unit);
  }
  ~Report() {
    std::fclose(markdown_);
    std::fclose(json_);
  }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;

  // `work`: operations for TFLOP/s, bytes for GB/s. A product that throws gives a row that says so.
  void row(const std::string& product, const std::string& how, double work,
           const std::function<void(int)>& launch) {
    try {
      const double ms = median_ms(launch), rate = work / ms * (unit_ == "GB/s" ? 1e-6 : 1e-9);
      both("| %s | %s | %.4f | %.0f |\n", product.c_str(), how.c_str(), ms, rate);
      std::fprintf(
          json_,
          "{\"part\": \"%s\", \"product\": \"%s\", \"how\": \"%s\", \"ms\": %.5f, \"%s\": %.1f}\n",
          part_.c_str(), product.c_str(), how.c_str(), ms, unit_.c_str(), rate);
    } catch (const std::exception& error) {
      both("| %s | %s | failed | %s |\n", product.c_str(), how.c_str(), error.what());
      std::fprintf(json_,
                   "{\"part\": \"%s\", \"product\": \"%s\", \"how\": \"%s\", \"failed\": true}\n",
                   part_.c_str(), product.c_str(), how.c_str());
    }
    std::fflush(markdown_);
    std::fflush(json_);
    std::fflush(stdout);
  }

 private:
  static FILE* open(const std::string& path) {
    FILE* file = std::fopen(path.c_str(), "w");
    if (file == nullptr) throw DataError("[gemm_gpu_bench] cannot write " + path);
    return file;
  }
  template <class... Values>
  void both(const char* format, Values... values) {
    std::printf(format, values...);
    std::fprintf(markdown_, format, values...);
  }

  std::string part_, unit_;
  FILE *markdown_ = nullptr, *json_ = nullptr;
};

std::string text_of(int64_t m, int64_t n, int64_t k) {
  return std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
}
double flops_of(int64_t m, int64_t n, int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// One dense product through cuBLASLt as a row.
void dense_row(Report& report, const Operands& data, GemmLt& lt, const std::string& how,
               const GemmShape& shape, bool accumulate) {
  const bool fp8 = shape.input == GemmInput::fp8;
  const Buffer& source = fp8 ? data.fp8 : data.bf16;
  const int64_t element = fp8 ? 1 : 2, x_bytes = shape.m * shape.k * element,
                w_bytes = shape.n * shape.k * element;
  const auto* scales = fp8 ? data.scales.as<float>() : nullptr;
  report.row(text_of(shape.m, shape.n, shape.k), how, flops_of(shape.m, shape.n, shape.k),
             [&](int set) {
               const uint8_t* x = source.as<uint8_t>() + set * (x_bytes + w_bytes);
               lt.run(shape,
                      {x, x + x_bytes, data.results.data(), scales,
                       fp8 ? scales + (int64_t{8} << 20) : nullptr, accumulate},
                      nullptr);
             });
}

constexpr auto kRows = ScaleLayout::rows_1x128;
constexpr auto kBlocks = ScaleLayout::blocks_128x128;

struct Size {
  int64_t m, n, k;
};

void forward_rows(Report& report, const Operands& data, GemmLt& lt, const Size& s) {
  dense_row(report, data, lt, "cuBLASLt FP8 1x128 x 128x128",
            {GemmInput::fp8, GemmOutput::bf16, s.m, s.n, s.k, kRows, kBlocks, 0}, false);
  dense_row(report, data, lt, "cuBLASLt BF16",
            {GemmInput::bf16, GemmOutput::bf16, s.m, s.n, s.k, kRows, kRows, 0}, false);
}

void wgrad_rows(Report& report, const Operands& data, GemmLt& lt, const Size& s) {
  dense_row(report, data, lt, "cuBLASLt FP8 1x128 x 1x128, FP32 +=",
            {GemmInput::fp8, GemmOutput::f32, s.m, s.n, s.k, kRows, kRows, 0}, true);
  dense_row(report, data, lt, "cuBLASLt BF16, FP32 +=",
            {GemmInput::bf16, GemmOutput::f32, s.m, s.n, s.k, kRows, kRows, 0}, true);
}

// Linears of a layer at 4,096 tokens: kv_a and q_a, q_b, kv_b, o, gate and up of the shared expert,
// its down.
constexpr Size kForward[] = {{4096, 2112, 7168},  {4096, 24576, 1536}, {4096, 32768, 512},
                             {4096, 7168, 16384}, {4096, 4096, 7168},  {4096, 7168, 2048}};
constexpr Size kWgrad[] = {{7168, 2112, 4096},  {1536, 24576, 4096}, {512, 32768, 4096},
                           {16384, 7168, 4096}, {7168, 4096, 4096},  {2048, 7168, 4096}};

struct GroupedSize {
  const char* name;
  std::vector<int> rows_of_expert;
  int64_t n, k;
};
const GroupedSize kGrouped[] = {{"4 x 8192", {8192, 8192, 8192, 8192}, 4096, 7168},
                                {"4 x 8192", {8192, 8192, 8192, 8192}, 7168, 2048},
                                {"ragged 30976", {9101, 6303, 8801, 6771}, 4096, 7168},
                                {"ragged 30976", {9101, 6303, 8801, 6771}, 7168, 2048}};

std::string on_sms(int num_sms) {
  return num_sms == 0 ? "" : ", " + std::to_string(num_sms) + " SMs";
}

struct Experts {
  int64_t rows = 0, padded = 0;
  Buffer block_expert, num_blocks, first_block, end_block;

  explicit Experts(const std::vector<int>& counts) {
    std::vector<int> owner, first, end;
    for (size_t e = 0; e < counts.size(); e++) {
      rows += counts[e];
      first.push_back(static_cast<int>(owner.size()));
      owner.insert(owner.end(), ceil_div(counts[e], kExpertAlignment), static_cast<int>(e));
      end.push_back(static_cast<int>(owner.size()));
    }
    padded = static_cast<int64_t>(owner.size()) * kExpertAlignment;
    const auto upload = [](const std::vector<int>& values) {
      return filled(static_cast<int64_t>(values.size() * sizeof(int)), values);
    };
    block_expert = upload(owner);
    num_blocks = upload({static_cast<int>(owner.size())});
    first_block = upload(first);
    end_block = upload(end);
  }
};

void bench_grouped(Report& report, const Operands& data, GemmLt& lt) {
  for (const GroupedSize& size : kGrouped) {
    const Experts experts(size.rows_of_expert);
    const auto num_experts = static_cast<int>(size.rows_of_expert.size());
    const int64_t x_bytes = experts.padded * size.k, w_bytes = num_experts * size.n * size.k;
    const std::string product =
        std::string(size.name) + ", " + std::to_string(size.n) + " x " + std::to_string(size.k);
    for (int num_sms : {0, 112}) {
      report.row(
          product, "own grouped FP8" + on_sms(num_sms), flops_of(experts.rows, size.n, size.k),
          [&](int set) {
            const uint8_t* x = data.fp8.as<uint8_t>() + set * (x_bytes + w_bytes);
            grouped_gemm_fp8(
                {experts.padded, size.n, size.k, num_experts, x, data.scales.as<float>(),
                 x + x_bytes, data.scales.as<float>() + (int64_t{8} << 20), data.results.data(),
                 experts.block_expert.as<int>(), experts.num_blocks.as<int>(), num_sms},
                nullptr);
          });
    }
    forward_rows(report, data, lt, {experts.padded, size.n, size.k});
  }
}

void bench_grouped_wgrad(Report& report, const Operands& data, GemmLt& lt) {
  for (const std::vector<int>& counts : {kGrouped[0].rows_of_expert, kGrouped[2].rows_of_expert}) {
    const Experts experts(counts);
    const auto num_experts = static_cast<int>(counts.size());
    const int64_t m = 7168, n = 4096, dy_bytes = m * experts.padded, x_bytes = n * experts.padded;
    const std::string product = "4 x 7168 x 4096, k " + std::to_string(experts.rows);
    for (int num_sms : {0, 112}) {
      report.row(
          product, "own grouped FP8 +=" + on_sms(num_sms), flops_of(m, n, experts.rows),
          [&](int set) {
            const uint8_t* dy = data.fp8.as<uint8_t>() + set * (dy_bytes + x_bytes);
            grouped_wgrad_fp8(
                {experts.padded, m, n, num_experts, dy, data.scales.as<float>(), dy + dy_bytes,
                 data.scales.as<float>() + (int64_t{8} << 20), data.results.as<float>(),
                 experts.first_block.as<int>(), experts.end_block.as<int>(), num_sms},
                nullptr);
          });
    }
    wgrad_rows(report, data, lt, {m, n, experts.padded});
  }
  wgrad_rows(report, data, lt, {7168, 4096, 8192});
}

// Does cuBLASLt keep to fewer multiprocessors? Then time grows as 132 / n.
void bench_sms(Report& report, const Operands& data, GemmLt& lt) {
  for (const Size& s : {kForward[3], kForward[4]}) {
    for (int sms : {0, 116, 66}) {
      const std::string on = sms == 0 ? ", all SMs" : ", " + std::to_string(sms) + " SMs";
      dense_row(report, data, lt, "cuBLASLt FP8" + on,
                {GemmInput::fp8, GemmOutput::bf16, s.m, s.n, s.k, kRows, kBlocks, sms}, false);
      dense_row(report, data, lt, "cuBLASLt BF16" + on,
                {GemmInput::bf16, GemmOutput::bf16, s.m, s.n, s.k, kRows, kRows, sms}, false);
    }
  }
}

// Bytes read and written, counted once.
void bench_quantize(Report& report, const Operands& data) {
  const int64_t rows = 32768, cols = 7168, elements = rows * cols;
  auto* q = data.results.as<uint8_t>();
  uint8_t* transposed = q + elements;
  auto* scales = reinterpret_cast<float*>(transposed + elements);
  float* transposed_scales = scales + num_scales(kRows, rows, cols);
  const auto x = [&](int set) { return data.bf16.as<uint16_t>() + set * elements; };
  const std::string size = std::to_string(rows) + " x " + std::to_string(cols);
  const auto bytes = static_cast<double>(elements);
  report.row(size, "rows 1x128", 3 * bytes, [&](int set) {
    quantize_rows({x(set), rows, cols, q, scales, nullptr, nullptr}, nullptr);
  });
  report.row(size, "rows 1x128 and transposed 128x1", 4 * bytes, [&](int set) {
    quantize_rows({x(set), rows, cols, q, scales, transposed, transposed_scales}, nullptr);
  });
  report.row(size, "blocks 128x128 and transposed", 4 * bytes, [&](int set) {
    quantize_blocks({x(set), rows, cols, q, scales, transposed, transposed_scales}, nullptr);
  });
}

int run(const std::string& folder, const std::vector<std::string>& parts) {
  const std::string reason = why_not_hopper();
  if (!reason.empty()) {
    std::printf("nothing measured: %s\n", reason.c_str());
    return 77;
  }
  const Operands data;
  GemmLt lt;
  for (const std::string& part : parts) {
    Report report(folder, part, part == "quantize" ? "GB/s" : "TFLOP/s");
    if (part == "dense") {
      for (const Size& size : kForward) forward_rows(report, data, lt, size);
    } else if (part == "wgrad") {
      for (const Size& size : kWgrad) wgrad_rows(report, data, lt, size);
    } else if (part == "grouped") {
      bench_grouped(report, data, lt);
    } else if (part == "grouped_wgrad") {
      bench_grouped_wgrad(report, data, lt);
    } else if (part == "sms") {
      bench_sms(report, data, lt);
    } else if (part == "quantize") {
      bench_quantize(report, data);
    } else {
      std::fprintf(stderr, "unknown part '%s'\n", part.c_str());
      return 2;
    }
  }
  return 0;
}

}  // namespace
}  // namespace strait::cuda

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr,
                 "gemm_gpu_bench DIR [dense] [wgrad] [grouped] [grouped_wgrad] [sms] [quantize]\n");
    return 2;
  }
  std::vector<std::string> parts(argv + 2, argv + argc);
  if (parts.empty()) parts = {"dense", "wgrad", "sms", "quantize", "grouped", "grouped_wgrad"};
  try {
    return strait::cuda::run(argv[1], parts);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
