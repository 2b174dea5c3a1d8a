// For compare.py: FP8 by Strait. Little-endian FP32 on stdin, results on stdout.
//   fp8_tool encode                        codes, one byte each
//   fp8_tool decode                        FP32 of all 256 codes; reads nothing
//   fp8_tool rows|blocks ROWS COLS LEAST   codes [ROWS, COLS], then scales [ROWS or tiles, tiles]
//   fp8_tool encode-e5m6                   E5M6 codes, two bytes each
//   fp8_tool decode-e5m6                   FP32 of all 4,096 codes; reads nothing
//   fp8_tool e5m6 ROWS COLS                bytes of E5m6Matrix, then scales [ROWS, tiles]
//   fp8_tool accumulate                    sums of the accumulator's model; for each reads 32 E4M3
//                                          numbers, 32 more, and what is in the accumulator
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/ops/math/accumulator.h"
#include "core/ops/math/fp8.h"
#include "core/ops/quantize.h"

namespace strait {
namespace {

std::vector<float> read_all() {
  std::vector<float> values;
  std::vector<float> chunk(1 << 16);
  while (const size_t count = std::fread(chunk.data(), 4, chunk.size(), stdin))
    values.insert(values.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(count));
  return values;
}

template <class T>
void write_all(const std::vector<T>& values) {
  if (std::fwrite(values.data(), sizeof(T), values.size(), stdout) != values.size()) std::abort();
}

Tensor matrix_from_stdin(Context& ctx, int64_t rows, int64_t cols) {
  const std::vector<float> values = read_all();
  Tensor x = ctx.empty({rows, cols}, DType::f32, Purpose::activations);
  STRAIT_CHECK(static_cast<int64_t>(values.size()) == rows * cols, "stdin holds another matrix");
  std::copy(values.begin(), values.end(), x.data<float>());
  return x;
}

void write_scales(const Tensor& all, ScaleLayout layout, int64_t rows, int64_t cols) {
  std::vector<float> scales;
  for (int64_t r = 0; r < rows; r += layout == ScaleLayout::rows_1x128 ? 1 : kScaleBlock)
    for (int64_t c = 0; c < cols; c += kScaleBlock)
      scales.push_back(all.data<float>()[scale_index(layout, rows, cols, r, c)]);
  write_all(scales);
}

void quantize(const std::string& what, int64_t rows, int64_t cols, float least) {
  Context ctx(Device::cpu, 2);
  const Tensor x = matrix_from_stdin(ctx, rows, cols);
  const bool blocks = what == "blocks";
  const ScaleLayout layout = blocks ? ScaleLayout::blocks_128x128 : ScaleLayout::rows_1x128;
  Fp8Matrix q = empty_fp8(ctx, rows, cols, layout, Purpose::activations);
  (blocks ? quantize_blocks : quantize_rows)(ctx, x, {.least_max = least}, q);
  const auto codes = q.codes_RC.span<uint8_t>();
  write_all(std::vector<uint8_t>(codes.begin(), codes.end()));
  write_scales(q.scales, layout, rows, cols);
}

void quantize_to_e5m6(int64_t rows, int64_t cols) {
  Context ctx(Device::cpu, 2);
  const Tensor x = matrix_from_stdin(ctx, rows, cols);
  E5m6Matrix q = empty_e5m6(ctx, rows, cols, Purpose::activations);
  quantize_e5m6(ctx, x, q);
  const auto bytes = q.bytes.span<uint8_t>();
  write_all(std::vector<uint8_t>(bytes.begin(), bytes.end()));
  write_scales(q.scales, ScaleLayout::rows_1x128, rows, cols);
}

void accumulate() {
  const std::vector<float> given = read_all();
  std::vector<float> sums;
  for (size_t i = 0; i + 2 * kProductsPerSum < given.size(); i += 2 * kProductsPerSum + 1) {
    uint8_t codes[2 * kProductsPerSum];
    for (size_t k = 0; k < 2 * kProductsPerSum; ++k) codes[k] = to_e4m3(given[i + k]);
    sums.push_back(model_accumulate({}, codes, codes + kProductsPerSum, kProductsPerSum,
                                    given[i + 2 * kProductsPerSum]));
  }
  write_all(sums);
}

int run(const std::vector<std::string>& words) {
  if (words == std::vector<std::string>{"encode"}) {
    std::vector<uint8_t> codes;
    for (const float value : read_all()) codes.push_back(to_e4m3(value));
    write_all(codes);
  } else if (words == std::vector<std::string>{"decode"}) {
    std::vector<float> values;
    for (int code = 0; code < 256; ++code) values.push_back(from_e4m3(static_cast<uint8_t>(code)));
    write_all(values);
  } else if (words == std::vector<std::string>{"encode-e5m6"}) {
    std::vector<uint16_t> codes;
    for (const float value : read_all())
      codes.push_back(static_cast<uint16_t>(E5m6::encode(value)));
    write_all(codes);
  } else if (words == std::vector<std::string>{"decode-e5m6"}) {
    std::vector<float> values;
    for (uint32_t code = 0; code < 2 * E5m6::kSign; ++code) values.push_back(E5m6::decode(code));
    write_all(values);
  } else if (words == std::vector<std::string>{"accumulate"}) {
    accumulate();
  } else if (words.size() == 3 && words[0] == "e5m6") {
    quantize_to_e5m6(std::stoll(words[1]), std::stoll(words[2]));
  } else if (words.size() == 4) {
    quantize(words[0], std::stoll(words[1]), std::stoll(words[2]), std::stof(words[3]));
  } else {
    fmt::print(stderr, "usage: see tests/oracle/fp8/fp8_tool.cpp\n");
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) { return strait::run({argv + 1, argv + argc}); }
