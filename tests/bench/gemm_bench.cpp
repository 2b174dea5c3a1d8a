// tests/bench/gemm_bench.cpp: the speed of core/ops/gemm beside oneDNN and beside the core's peak.
//
//   gemm_bench [--threads N] [--rounds N] [--dtype f32|bf16] [--filter TEXT] [--json]
//
// Every figure is the best of `rounds`, and the contestants take turns within a round, so that a
// busy machine or a changing clock hits all of them. One thread is timed by its CPU time, several
// by wall time. `peak` is the fastest of an FMA and, for bf16, a VDPBF16PS and a TDPBF16PS loop
// timed in the same rounds. oneDNN "plain" reads the weight as the model stores it, "reordered" in
// the order it asked for (made outside the timing).
#include <fmt/format.h>
#include <immintrin.h>
#include <omp.h>
#include <time.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <dnnl.hpp>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/ops/cpu/isa.h"
#include "core/ops/gemm.h"

namespace strait {
namespace {

enum class Kind { forward, input_gradient, weight_gradient };
constexpr const char* kKindNames[] = {"y=xW'", "dx=dyW", "dw=dy'x"};

// T rows per expert, a weight [N, K].
struct Case {
  Kind kind;
  DType dtype;
  int64_t experts, rows, n, k;
  std::string name() const {
    return fmt::format("{:<8}{:<5}{:>3} x {:>4} N {:>4} K {:>4}",
                       kKindNames[static_cast<int>(kind)], name_of(dtype), experts, rows, n, k);
  }
  double flops() const {
    return 2.0 * static_cast<double>(experts * rows) * static_cast<double>(n) *
           static_cast<double>(k);
  }
};

double seconds(bool cpu_time) {
  timespec now{};
  clock_gettime(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

#define TWENTY_FOUR(op)                                                                        \
  op "0\n" op "1\n" op "2\n" op "3\n" op "4\n" op "5\n" op "6\n" op "7\n" op "8\n" op "9\n" op \
     "10\n" op "11\n" op "12\n" op "13\n" op "14\n" op "15\n" op "16\n" op "17\n" op "18\n" op \
     "19\n" op "20\n" op "21\n" op "22\n" op "23\n"
#define ALL_REGISTERS                                                                      \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
constexpr int64_t kPeakLoops = 20000;

__attribute__((target("avx512f"))) double peak_fma_512() {
  int64_t n = kPeakLoops;
  const double start = seconds(true);
  asm volatile("vpxord %%zmm30,%%zmm30,%%zmm30\nvpxord %%zmm31,%%zmm31,%%zmm31\n1:\n" TWENTY_FOUR(
                   "vfmadd231ps %%zmm30,%%zmm31,%%zmm") "dec %0\njnz 1b"
               : "+r"(n)::ALL_REGISTERS, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21",
                 "xmm22", "xmm23", "xmm30", "xmm31");
  return 24 * 32 * static_cast<double>(kPeakLoops) / (seconds(true) - start);
}

__attribute__((target("avx512f"))) double peak_bf16_512() {
  int64_t n = kPeakLoops;
  const double start = seconds(true);
  asm volatile("vpxord %%zmm30,%%zmm30,%%zmm30\nvpxord %%zmm31,%%zmm31,%%zmm31\n1:\n" TWENTY_FOUR(
                   "vdpbf16ps %%zmm30,%%zmm31,%%zmm") "dec %0\njnz 1b"
               : "+r"(n)::ALL_REGISTERS, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21",
                 "xmm22", "xmm23", "xmm30", "xmm31");
  return 24 * 64 * static_cast<double>(kPeakLoops) / (seconds(true) - start);
}

__attribute__((target("amx-tile,amx-bf16"))) double peak_tiles() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shapes;
  _tile_loadconfig(&shapes);
  // Tiles of zeros take less power, and then the clock is a fifth faster than with numbers.
  std::minstd_rand random(1);
  uint16_t values[512];
  for (uint16_t& value : values) value = static_cast<uint16_t>(0x3c00 + random() % 1024);
  _tile_loadd(4, values, 64);
  _tile_loadd(5, values, 64);
  _tile_loadd(6, values, 64);
  _tile_loadd(7, values, 64);
  const double start = seconds(true);
  for (int64_t n = 0; n < kPeakLoops; ++n) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  const double spent = seconds(true) - start;
  _tile_release();
  return 4 * 16 * 16 * 64 * static_cast<double>(kPeakLoops) / spent;
}

__attribute__((target("avx2"))) double peak_fma_256() {
  int64_t n = kPeakLoops;
  const double start = seconds(true);
  asm volatile(
      "vpxor %%xmm14,%%xmm14,%%xmm14\nvpxor %%xmm15,%%xmm15,%%xmm15\n1:\n"
      "vfmadd231ps %%ymm14,%%ymm15,%%ymm0\nvfmadd231ps %%ymm14,%%ymm15,%%ymm1\n"
      "vfmadd231ps %%ymm14,%%ymm15,%%ymm2\nvfmadd231ps %%ymm14,%%ymm15,%%ymm3\n"
      "vfmadd231ps %%ymm14,%%ymm15,%%ymm4\nvfmadd231ps %%ymm14,%%ymm15,%%ymm5\n"
      "vfmadd231ps %%ymm14,%%ymm15,%%ymm6\nvfmadd231ps %%ymm14,%%ymm15,%%ymm7\n"
      "vfmadd231ps %%ymm14,%%ymm15,%%ymm8\nvfmadd231ps %%ymm14,%%ymm15,%%ymm9\n"
      "vfmadd231ps %%ymm14,%%ymm15,%%ymm10\nvfmadd231ps %%ymm14,%%ymm15,%%ymm11\ndec %0\njnz 1b"
      : "+r"(n)::ALL_REGISTERS);
  return 12 * 16 * static_cast<double>(kPeakLoops) / (seconds(true) - start);
}

// FLOP/s of one core.
double peak(DType dtype) {
  if (cpu::isa() < cpu::Isa::avx512) return peak_fma_256();
  const double fma = peak_fma_512();
  if (dtype == DType::f32) return fma;
  const double best = std::max(fma, peak_bf16_512());
  return cpu::isa() == cpu::Isa::amx ? std::max(best, peak_tiles()) : best;
}

// Bytes/s at which one core reads what 16 experts' weights of 512 x 512 in BF16 take: what bounds
// products of few rows.
double read_speed(int rounds) {
  const std::vector<uint64_t> words((16 * 512 * 512 * 2) / sizeof(uint64_t), 1);
  double best = 0;
  uint64_t all = 0;
  for (int round = 0; round < rounds + 1; ++round) {  // the first one fills the caches
    const double start = seconds(true);
    uint64_t sums[32] = {};
    for (size_t i = 0; i < words.size(); i += 32)
      for (size_t lane = 0; lane < 32; ++lane) sums[lane] ^= words[i + lane];
    for (const uint64_t sum : sums) all ^= sum;
    best = std::max(best,
                    static_cast<double>(words.size() * sizeof(uint64_t)) / (seconds(true) - start));
  }
  if (all == 1) fmt::print("\n");  // never: what was read is used
  return best;
}

Tensor random_tensor(Context& context, Shape shape, DType dtype) {
  Tensor tensor = context.empty(shape, dtype, Purpose::activations);
  std::minstd_rand random(1);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const float value = static_cast<float>(random() % 2001) * 1e-3f - 1;
    if (dtype == DType::bf16)
      tensor.data<bfloat16>()[i] = to_bfloat16(value);
    else
      tensor.data<float>()[i] = value;
  }
  return tensor;
}

// The same products by oneDNN, one matmul per expert, the primitive made once.
class OneDnn {
 public:
  OneDnn(const Case& c, bool reordered, const Tensor& a, const Tensor& b, const Tensor& result)
      : case_(c) {
    using dnnl::memory;
    using Tag = memory::format_tag;
    const auto type = c.dtype == DType::f32 ? memory::data_type::f32 : memory::data_type::bf16;
    const bool dw = c.kind == Kind::weight_gradient;
    const int64_t m = dw ? c.n : c.rows, n = c.kind == Kind::forward ? c.n : c.k;
    const int64_t k = dw ? c.rows : c.kind == Kind::forward ? c.k : c.n;
    const memory::desc a_desc({m, k}, type, dw ? Tag::ba : Tag::ab);
    const memory::desc b_plain({k, n}, type, c.kind == Kind::forward ? Tag::ba : Tag::ab);
    const memory::desc b_any({k, n}, type, Tag::any);
    const memory::desc c_desc({m, n}, dw ? memory::data_type::f32 : type, Tag::ab);
    const dnnl::matmul::primitive_desc desc(
        dnnl::matmul::desc(a_desc, reordered ? b_any : b_plain, c_desc), engine_);
    matmul_ = dnnl::matmul(desc);
    for (int64_t e = 0; e < c.experts; ++e) {
      const auto part = [&](const Tensor& tensor) {
        return tensor.raw() + e * (tensor.bytes() / c.experts);
      };
      memory weights(b_plain, engine_, part(b));
      if (reordered) {
        memory ordered(desc.weights_desc(), engine_);
        dnnl::reorder(weights, ordered).execute(stream_, weights, ordered);
        stream_.wait();
        weights = ordered;
      }
      arguments_.push_back({{DNNL_ARG_SRC, memory(a_desc, engine_, part(a))},
                            {DNNL_ARG_WEIGHTS, weights},
                            {DNNL_ARG_DST, memory(c_desc, engine_, part(result))}});
    }
  }
  void run() {
    for (const auto& arguments : arguments_) matmul_.execute(stream_, arguments);
    stream_.wait();
  }

 private:
  Case case_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul matmul_;
  std::vector<std::unordered_map<int, dnnl::memory>> arguments_;
};

struct Options {
  int threads = 1, rounds = 7;
  std::string dtype, filter;
  bool json = false;
};

struct Speeds {  // FLOP/s
  double ours = 0, with_packing = 0, plain = 0, reordered = 0, peak = 0;
};

void keep_best(double& best, double flops, bool cpu_time, const std::function<void()>& body) {
  const double start = seconds(cpu_time);
  int64_t repeats = 0;
  double spent = 0;
  do {
    body();
    ++repeats;
    spent = seconds(cpu_time) - start;
  } while (spent < 4e-3);
  best = std::max(best, flops * static_cast<double>(repeats) / spent);
}

Speeds measure(const Case& c, const Options& options) {
  Context context(Device::cpu, options.threads);
  const bool forward = c.kind == Kind::forward, dw = c.kind == Kind::weight_gradient;
  const int64_t rows = c.experts * c.rows;
  const Tensor x = random_tensor(context, {rows, c.k}, c.dtype);
  const Tensor dy = random_tensor(context, {rows, c.n}, c.dtype);
  const Tensor w = random_tensor(context, {c.experts, c.n, c.k}, c.dtype);
  const Tensor a = forward ? x : dy, b = dw ? x : w;
  const auto result = [&] {
    if (dw) return context.zeros({c.experts, c.n, c.k}, DType::f32, Purpose::gradients);
    return context.zeros({rows, forward ? c.n : c.k}, c.dtype, Purpose::activations);
  };
  const Tensor ours = result(), theirs = result();
  std::vector<int64_t> offsets;
  for (int64_t e = 0; e <= c.experts; ++e) offsets.push_back(e * c.rows);
  PackedWeight packed(forward ? Orientation::forward : Orientation::input_gradient);
  const auto pack = [&] {
    if (!dw) packed.pack(context, w, c.dtype);
  };
  const auto run = [&] {
    if (dw)
      grouped_linear_weight_gradient(context, dy, x, offsets, ours);
    else if (forward)
      grouped_linear(context, x, offsets, packed, ours);
    else
      grouped_linear_input_gradient(context, dy, offsets, packed, ours);
  };
  pack();
  OneDnn plain(c, false, a, b, theirs), reordered(c, true, a, b, theirs);
  const bool cpu_time = options.threads == 1;
  Speeds speeds;
  for (int round = 0; round < options.rounds; ++round) {
    speeds.peak = std::max(speeds.peak, peak(c.dtype) * options.threads);
    keep_best(speeds.ours, c.flops(), cpu_time, run);
    keep_best(speeds.plain, c.flops(), cpu_time, [&] { plain.run(); });
    keep_best(speeds.reordered, c.flops(), cpu_time, [&] { reordered.run(); });
    keep_best(speeds.with_packing, c.flops(), cpu_time, [&] { pack(), run(); });
  }
  return speeds;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  constexpr int64_t kDense[][3] = {{512, 512, 512},   {1024, 96, 384},   {2048, 512, 512},
                                   {2048, 2048, 512}, {2048, 512, 2048}, {2048, 2048, 2048},
                                   {4096, 1408, 512}, {4096, 64, 512}};
  for (DType dtype : {DType::f32, DType::bf16}) {
    for (Kind kind : {Kind::forward, Kind::input_gradient, Kind::weight_gradient}) {
      for (const auto& [rows, n, k] : kDense) all.push_back({kind, dtype, 1, rows, n, k});
      for (int64_t rows : {8, 16, 32, 64, 128}) all.push_back({kind, dtype, 16, rows, 512, 512});
      for (int64_t rows : {16, 32}) all.push_back({kind, dtype, 16, rows, 256, 512});
      all.push_back({kind, dtype, 64, 32, 256, 512});
    }
  }
  return all;
}

void print_table(const Options& options) {
  if (!options.json) {
    fmt::print(
        "one thread reads 8 MiB, the BF16 weights of 16 experts of 512 x 512, at {:.1f} GB/s\n",
        read_speed(options.rounds) / 1e9);
    fmt::print(
        "{} threads, {}, GFLOP/s (best of {})\n{:<38} {:>6} {:>7} {:>6} {:>9} {:>6} | {:>6} {:>8} "
        "{:>8}\n",
        options.threads, cpu::name_of(cpu::isa()), options.rounds, "kind    type  E  rows", "ours",
        "+pack", "plain", "reordered", "peak", "/peak", "/plain", "/reord.");
  }
  for (const Case& c : cases()) {
    if (!options.dtype.empty() && options.dtype != name_of(c.dtype)) continue;
    if (c.name().find(options.filter) == std::string::npos) continue;
    const Speeds s = measure(c, options);
    if (options.json)
      fmt::print(
          "{{\"kind\": \"{}\", \"dtype\": \"{}\", \"threads\": {}, \"experts\": {}, \"rows\": {}, "
          "\"n\": {}, \"k\": {}, \"ours_gflops\": {:.1f}, \"with_packing_gflops\": {:.1f}, "
          "\"onednn_plain_gflops\": {:.1f}, \"onednn_reordered_gflops\": {:.1f}, \"peak_gflops\": "
          "{:.1f}}}\n",
          kKindNames[static_cast<int>(c.kind)], name_of(c.dtype), options.threads, c.experts,
          c.rows, c.n, c.k, s.ours * 1e-9, s.with_packing * 1e-9, s.plain * 1e-9,
          s.reordered * 1e-9, s.peak * 1e-9);
    else
      fmt::print(
          "{:<38} {:>6.1f} {:>7.1f} {:>6.1f} {:>9.1f} {:>6.1f} | {:>6.2f} {:>8.2f} {:>8.2f}\n",
          c.name(), s.ours * 1e-9, s.with_packing * 1e-9, s.plain * 1e-9, s.reordered * 1e-9,
          s.peak * 1e-9, s.ours / s.peak, s.ours / s.plain, s.ours / s.reordered);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) {
  strait::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--json") {
      options.json = true;
    } else if (i + 1 < argc && flag == "--threads") {
      options.threads = std::stoi(argv[++i]);
    } else if (i + 1 < argc && flag == "--rounds") {
      options.rounds = std::stoi(argv[++i]);
    } else if (i + 1 < argc && flag == "--dtype") {
      options.dtype = argv[++i];
    } else if (i + 1 < argc && flag == "--filter") {
      options.filter = argv[++i];
    } else {
      fmt::print(stderr, "gemm_bench: unknown option {}\n", flag);
      return 2;
    }
  }
  omp_set_num_threads(options.threads);
  strait::print_table(options);
}
