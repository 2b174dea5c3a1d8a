// tests/bench/fp8_gemm_bench.cpp: products of FP8 operands beside the same of BF16.
//
//   fp8_gemm_bench [--rounds N] [--filter TEXT] [--json]
//
// One thread. Every figure is the best of `rounds`; the contestants take turns within a round.
// "products" has its operands quantised, "all" also quantises what a step quantises for it:
// activations or gradients, not weights, which are quantised once a step.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
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
  int64_t experts, rows, n, k;
  std::string name() const {
    return fmt::format("{:<8}{:>3} x {:>4} N {:>4} K {:>4}", kKindNames[static_cast<int>(kind)],
                       experts, rows, n, k);
  }
};

struct Options {
  int rounds = 7;
  std::string filter;
  bool json = false;
};

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void keep_best(double& best, const std::function<void()>& body) {
  const double start = cpu_seconds();
  int64_t repeats = 0;
  double spent = 0;
  do {
    body();
    ++repeats;
    spent = cpu_seconds() - start;
  } while (spent < 4e-3);
  const double each = spent / static_cast<double>(repeats);
  best = best == 0 ? each : std::min(best, each);
}

Tensor normal(Context& ctx, Shape shape) {
  Tensor tensor = ctx.empty(shape, DType::bf16, Purpose::activations);
  std::minstd_rand random(1);
  std::normal_distribution<float> one;
  for (int64_t i = 0; i < tensor.numel(); ++i)
    tensor.data<bfloat16>()[i] = to_bfloat16(one(random));
  return tensor;
}

struct Seconds {
  double bf16 = 0, products = 0, all = 0;
};

Seconds measure(const Case& c, int rounds) {
  Context ctx(Device::cpu, 1);
  const int64_t rows = c.experts * c.rows;
  const Tensor x = normal(ctx, {rows, c.k}), dy = normal(ctx, {rows, c.n});
  const Tensor w = normal(ctx, {c.experts, c.n, c.k});
  const Tensor y = ctx.empty({rows, c.n}, DType::bf16, Purpose::activations);
  const Tensor dx = ctx.empty({rows, c.k}, DType::bf16, Purpose::activations);
  const Tensor dw = ctx.zeros({c.experts, c.n, c.k}, DType::f32, Purpose::gradients);
  std::vector<int64_t> offsets;
  for (int64_t e = 0; e <= c.experts; ++e) offsets.push_back(e * c.rows);
  PackedWeight bf16, fp8;
  bf16.pack(ctx, w, DType::bf16);
  fp8.pack(ctx, w, DType::e4m3);
  const auto product = [&](const GemmOperand& of_x, const GemmOperand& of_dy,
                           const PackedWeight& weight) {
    switch (c.kind) {
      case Kind::forward:
        return grouped_linear(ctx, of_x, offsets, weight, y);
      case Kind::input_gradient:
        return grouped_linear_input_gradient(ctx, of_dy, offsets, weight, dx);
      case Kind::weight_gradient:
        return grouped_linear_weight_gradient(ctx, of_dy, of_x, offsets, dw, Accumulate::yes);
    }
  };
  const bool columns = c.kind == Kind::weight_gradient;
  const auto quantised = [&](const Tensor& matrix, const QuantizeSettings& settings) {
    return columns ? fp8_columns_of(ctx, matrix, offsets, settings, Purpose::activations)
                   : fp8_rows_of(ctx, matrix, settings, Purpose::activations);
  };
  const Fp8Matrix x8 = quantised(x, kActivationScales), dy8 = quantised(dy, kGradientScales);
  Seconds best;
  for (int round = 0; round < rounds; ++round) {
    keep_best(best.bf16, [&] { product(x, dy, bf16); });
    keep_best(best.products, [&] { product(x8, dy8, fp8); });
    keep_best(best.all, [&] {
      const bool reads_x = c.kind != Kind::input_gradient, reads_dy = c.kind != Kind::forward;
      product(reads_x ? quantised(x, kActivationScales) : x8,
              reads_dy ? quantised(dy, kGradientScales) : dy8, fp8);
    });
  }
  return best;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (Kind kind : {Kind::forward, Kind::input_gradient, Kind::weight_gradient}) {
    for (const auto& [rows, n, k] :
         {std::array{2048, 512, 512}, {2048, 2048, 512}, {2048, 2048, 2048}, {4096, 1408, 512}})
      all.push_back({kind, 1, rows, n, k});
    for (int64_t rows : {32, 64, 128}) all.push_back({kind, 16, rows, 512, 512});
    all.push_back({kind, 64, 32, 256, 512});
  }
  return all;
}

void print(const Options& options) {
  if (!options.json)
    fmt::print("1 thread, {}, GFLOP/s (best of {})\n{:<32} {:>7} {:>9} {:>7} | {:>13} {:>9}\n",
               cpu::name_of(cpu::isa()), options.rounds, "kind      E  rows", "BF16", "products",
               "all", "products/BF16", "all/BF16");
  double dense = 0, experts = 0;
  int num_dense = 0, num_experts = 0;
  for (const Case& c : cases()) {
    if (c.name().find(options.filter) == std::string::npos) continue;
    const Seconds s = measure(c, options.rounds);
    const double gflop = 2e-9 * static_cast<double>(c.experts * c.rows) * static_cast<double>(c.n) *
                         static_cast<double>(c.k);
    if (options.json)
      fmt::print(
          "{{\"kind\": \"{}\", \"experts\": {}, \"rows\": {}, \"n\": {}, \"k\": {}, "
          "\"bf16_gflops\": {:.1f}, \"products_gflops\": {:.1f}, \"all_gflops\": {:.1f}}}\n",
          kKindNames[static_cast<int>(c.kind)], c.experts, c.rows, c.n, c.k, gflop / s.bf16,
          gflop / s.products, gflop / s.all);
    else
      fmt::print("{:<32} {:>7.1f} {:>9.1f} {:>7.1f} | {:>13.2f} {:>9.2f}\n", c.name(),
                 gflop / s.bf16, gflop / s.products, gflop / s.all, s.bf16 / s.products,
                 s.bf16 / s.all);
    std::fflush(stdout);
    (c.experts == 1 ? dense : experts) += std::log(s.bf16 / s.products);
    ++(c.experts == 1 ? num_dense : num_experts);
  }
  if (!options.json)
    fmt::print("geometric mean of products/BF16: dense {:.2f}, experts {:.2f}\n",
               std::exp(dense / std::max(1, num_dense)),
               std::exp(experts / std::max(1, num_experts)));
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) {
  strait::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--json") {
      options.json = true;
    } else if (i + 1 < argc && flag == "--rounds") {
      options.rounds = std::stoi(argv[++i]);
    } else if (i + 1 < argc && flag == "--filter") {
      options.filter = argv[++i];
    } else {
      fmt::print(stderr, "fp8_gemm_bench: unknown option {}\n", flag);
      return 2;
    }
  }
  strait::print(options);
}
