// What a short accumulator costs: FP8 products by the model of Hopper's tensor cores
// (core/ops/math/accumulator.h) and in FP32, beside the same codes in FP64, and what quantising to
// those codes cost before. `tests/bench/accumulator` runs this and draws it.
//
//   accumulator_study [--rows N] [--cols N] [--least-k N] [--most-k N] [--seed N]
//                     [--threads N] [--data NAME]
//
// Products y = x W^T of x [rows, K] and W [cols, K] for K = least-k, twice that, ... most-k; JSON
// on stdout. An accumulator cannot change its scale between two promotions, so what is promoted
// more seldom than every 128 has one scale for a row of x and one for all of W ("whole"); the rest
// has Strait's tiles, 1 x 128 and 128 x 128.
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/ops/math/accumulator.h"
#include "core/ops/quantize.h"

namespace strait {
namespace {

struct Options {
  int64_t rows = 32, cols = 128, least_k = kScaleBlock, most_k = 65536, seed = 1;
  int64_t threads = default_num_threads(1);
  std::string data;  // of kData; empty: all
};

using Draw = std::function<float(std::mt19937&)>;
struct Data {
  const char* name;
  Draw activation, weight;
};

float normal(std::mt19937& random, float deviation) {
  return std::normal_distribution<float>(0, deviation)(random);
}
float uniform(std::mt19937& random) { return std::uniform_real_distribution<float>(0, 1)(random); }
float heavy(std::mt19937& random) { return std::student_t_distribution<float>(3)(random); }
float small_normal(std::mt19937& random) { return normal(random, 0.02f); }

const Data kData[] = {
    {"normal", [](std::mt19937& random) { return normal(random, 1); }, small_normal},
    {"heavy", heavy, small_normal},
    {"positive", uniform, uniform},
};

// [rows, K] in FP8: of row r, scales[r * row_stride + tile * tile_stride].
struct Operand {
  std::vector<uint8_t> codes{};
  std::vector<float> scales{};
  int64_t k = 0, rows_per_scale = 1, row_stride = 0, tile_stride = 0;

  ModelScales scales_of(int64_t row) const {
    return {scales.data() + row / rows_per_scale * row_stride, tile_stride};
  }
  const uint8_t* codes_of(int64_t row) const { return codes.data() + row * k; }
  double value(int64_t row, int64_t col) const {
    const ModelScales of_row = scales_of(row);
    return double{from_e4m3(codes_of(row)[col])} * of_row.first[col / kScaleBlock * tile_stride];
  }
};

Operand in_tiles(Context& ctx, const Tensor& x_RK, ScaleLayout layout) {
  const int64_t rows = x_RK.rows(), k = x_RK.cols();
  Fp8Matrix q = empty_fp8(ctx, rows, k, layout, Purpose::activations);
  const bool blocks = layout == ScaleLayout::blocks_128x128;
  (blocks ? quantize_blocks : quantize_rows)(ctx, x_RK, {.least_max = kLeastPublishedMax}, q);
  const auto codes = q.codes_RC.span<uint8_t>();
  const auto scales = q.scales.span<float>();
  const int64_t stride = scale_stride(layout, rows, k);
  return {.codes = {codes.begin(), codes.end()},
          .scales = {scales.begin(), scales.end()},
          .k = k,
          .rows_per_scale = blocks ? kScaleBlock : 1,
          .row_stride = blocks ? stride : 1,
          .tile_stride = blocks ? 1 : stride};
}

// One scale for `rows_per_scale` whole rows.
Operand whole(const Tensor& x_RK, int64_t rows_per_scale) {
  const auto x = x_RK.span<float>();
  Operand q{.k = x_RK.cols(), .rows_per_scale = rows_per_scale, .row_stride = 1};
  const auto group = static_cast<size_t>(rows_per_scale * q.k);
  for (size_t begin = 0; begin < x.size(); begin += group) {
    const auto part = x.subspan(begin, std::min(group, x.size() - begin));
    float most = 0;
    for (const float value : part) most = std::max(most, std::fabs(value));
    q.scales.push_back(fp8_scale(most));
    for (const float value : part) q.codes.push_back(to_e4m3(value / q.scales.back()));
  }
  return q;
}

struct Operands {
  Operand x, w;
};
using Product = std::vector<double>;  // [rows, cols]

class Study {
 public:
  Study(const Options& options, Context& ctx) : options_(options), ctx_(ctx) {}

  void of(const Data& data, int64_t k) {
    std::mt19937 random(static_cast<unsigned>(options_.seed));
    const Tensor x = drawn(random, options_.rows, k, data.activation);
    const Tensor w = drawn(random, options_.cols, k, data.weight);
    const Product exact = in_fp64(
        k, [&](int64_t r, int64_t c) { return double{x.data<float>()[r * k + c]}; },
        [&](int64_t r, int64_t c) { return double{w.data<float>()[r * k + c]}; });
    fmt::print("{{\"data\":\"{}\",\"k\":{},\"errors\":[", data.name, k);
    const Operands tiles{in_tiles(ctx_, x, ScaleLayout::rows_1x128),
                         in_tiles(ctx_, w, ScaleLayout::blocks_128x128)};
    one_quantisation("tiles", tiles, exact, {32, 64, 128});
    fmt::print(",");
    const Operands rows{whole(x, 1), whole(w, options_.cols)};
    one_quantisation("whole", rows, exact, {128, 256, 0});
    fmt::print("]}}");
    std::fflush(stdout);
  }

 private:
  Tensor drawn(std::mt19937& random, int64_t rows, int64_t k, const Draw& draw) {
    Tensor x = ctx_.empty({rows, k}, DType::f32, Purpose::activations);
    for (float& value : x.span<float>()) value = draw(random);
    return x;
  }

  void each_row(const std::function<void(int64_t row)>& body) {
    ctx_.pool().parallel_for(options_.rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }

  template <class X, class W>
  Product in_fp64(int64_t k, const X& x, const W& w) {
    const auto cols = static_cast<size_t>(options_.cols);
    std::vector<double> w_KN(static_cast<size_t>(k) * cols);
    for (int64_t c = 0; c < k; ++c)
      for (size_t n = 0; n < cols; ++n)
        w_KN[static_cast<size_t>(c) * cols + n] = w(static_cast<int64_t>(n), c);
    Product y(static_cast<size_t>(options_.rows) * cols);
    each_row([&](int64_t row) {
      double* of_row = y.data() + static_cast<size_t>(row) * cols;
      for (int64_t c = 0; c < k; ++c) {
        const double value = x(row, c);
        const double* weights = w_KN.data() + static_cast<size_t>(c) * cols;
        for (size_t n = 0; n < cols; ++n) of_row[n] += value * weights[n];
      }
    });
    return y;
  }

  // Sums in FP32 over `tile` products, whose scaled sums are added in FP32: products of codes are
  // exact there.
  Product in_fp32(const Operands& q, int64_t tile) {
    const auto cols = static_cast<size_t>(options_.cols);
    const int64_t k = q.x.k;
    std::vector<float> w_KN(static_cast<size_t>(k) * cols);
    for (int64_t c = 0; c < k; ++c)
      for (size_t n = 0; n < cols; ++n)
        w_KN[static_cast<size_t>(c) * cols + n] =
            from_e4m3(q.w.codes_of(static_cast<int64_t>(n))[c]);
    Product y(static_cast<size_t>(options_.rows) * cols);
    each_row([&](int64_t row) {
      std::vector<float> sums(cols), part(cols);
      const ModelScales xs = q.x.scales_of(row);
      for (int64_t begin = 0; begin < k; begin += tile) {
        std::fill(part.begin(), part.end(), 0.0f);
        for (int64_t c = begin; c < std::min(begin + tile, k); ++c) {
          const float value = from_e4m3(q.x.codes_of(row)[c]);
          const float* weights = w_KN.data() + static_cast<size_t>(c) * cols;
          for (size_t n = 0; n < cols; ++n) part[n] += value * weights[n];
        }
        for (size_t n = 0; n < cols; ++n) {
          const ModelScales ws = q.w.scales_of(static_cast<int64_t>(n));
          const int64_t t = begin / kScaleBlock;
          sums[n] = std::fma(part[n], xs.first[t * xs.stride] * ws.first[t * ws.stride], sums[n]);
        }
      }
      std::copy(sums.begin(), sums.end(), y.data() + static_cast<size_t>(row) * cols);
    });
    return y;
  }

  Product by_model(const Operands& q, int64_t promote_every) {
    Product y(static_cast<size_t>(options_.rows * options_.cols));
    each_row([&](int64_t row) {
      for (int64_t n = 0; n < options_.cols; ++n)
        y[static_cast<size_t>(row * options_.cols + n)] =
            model_dot({}, q.x.codes_of(row), q.x.scales_of(row), q.w.codes_of(n), q.w.scales_of(n),
                      q.x.k, promote_every);
    });
    return y;
  }

  static void print_error(const std::string& what, const char* scales, const Product& y,
                          const Product& exact, bool first = false) {
    double squares = 0, exact_squares = 0, largest = 0, largest_ratio = 0, along = 0, size = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      const double error = y[i] - exact[i];
      squares += error * error;
      exact_squares += exact[i] * exact[i];
      largest = std::max(largest, std::fabs(error));
      if (exact[i] != 0) largest_ratio = std::max(largest_ratio, std::fabs(error / exact[i]));
      along += exact[i] < 0 ? -error : error;
      size += std::fabs(exact[i]);
    }
    const double rms = std::sqrt(exact_squares / static_cast<double>(y.size()));
    fmt::print(
        "{}\n    {{\"sum\":\"{}\",\"scales\":\"{}\",\"l2\":{:.4g},\"largest_over_rms\":{:.4g},"
        "\"largest_relative\":{:.4g},\"growth\":{:.4g}}}",
        first ? "" : ",", what, scales, std::sqrt(squares / exact_squares), largest / rms,
        largest_ratio, along / size);
  }

  void one_quantisation(const char* scales, const Operands& q, const Product& unquantised,
                        const std::vector<int64_t>& promotions) {
    const int64_t k = q.x.k;
    const Product exact = in_fp64(
        k, [&](int64_t r, int64_t c) { return q.x.value(r, c); },
        [&](int64_t r, int64_t c) { return q.w.value(r, c); });
    print_error("quantisation", scales, exact, unquantised, true);
    const bool tiles = q.x.tile_stride != 0;
    print_error("fp32", scales, in_fp32(q, tiles ? kScaleBlock : k), exact);
    for (const int64_t every : promotions)
      print_error(every == 0 ? "never" : fmt::format("every {}", every), scales, by_model(q, every),
                  exact);
  }

  const Options& options_;
  Context& ctx_;
};

bool parse(int argc, char** argv, Options& options) {
  struct Word {
    const char* name;
    int64_t* value;
  };
  const Word words[] = {{"--rows", &options.rows},       {"--cols", &options.cols},
                        {"--least-k", &options.least_k}, {"--most-k", &options.most_k},
                        {"--seed", &options.seed},       {"--threads", &options.threads}};
  for (int i = 1; i < argc; i += 2) {
    bool known = false;
    if (i + 1 < argc && std::string(argv[i]) == "--data") {
      options.data = argv[i + 1];
      for (const Data& data : kData) known |= options.data == data.name;
    }
    for (const Word& word : words)
      if (i + 1 < argc && std::string(argv[i]) == word.name) {
        *word.value = std::atoll(argv[i + 1]);
        known = *word.value > 0;
      }
    if (!known) return false;
  }
  return true;
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) {
  using namespace strait;
  Options options;
  if (!parse(argc, argv, options)) {
    fmt::print(stderr, "usage: see tests/bench/accumulator_study.cpp\n");
    return 2;
  }
  Context ctx(Device::cpu, static_cast<int>(options.threads));
  Study study(options, ctx);
  const AccumulatorModel model;
  fmt::print(
      "{{\"addend_bits\":{},\"register_bits\":{},\"products_per_sum\":{},\"rows\":{},\"cols\":{},"
      "\"seed\":{},\"results\":[\n",
      model.addend_bits, model.register_bits, kProductsPerSum, options.rows, options.cols,
      options.seed);
  bool first = true;
  for (const Data& data : kData) {
    if (!options.data.empty() && options.data != data.name) continue;
    for (int64_t k = options.least_k; k <= options.most_k; k *= 2) {
      fmt::print("{}", first ? "" : ",\n");
      first = false;
      study.of(data, k);
    }
  }
  fmt::print("\n]}}\n");
}
