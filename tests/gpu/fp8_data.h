// tests/gpu/fp8_data.h: FP8 operands made for a test, their reference product in FP64, and a
// comparison that says where and how a result is wrong.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/ops/math/fp8.h"
#include "core/ops/math/scales.h"

namespace strait::cuda {

struct Fp8Matrix {
  int64_t rows = 0, cols = 0;
  ScaleLayout layout = ScaleLayout::rows_1x128;
  std::vector<uint8_t> q;
  std::vector<float> scales;

  Fp8Matrix(int64_t rows, int64_t cols, ScaleLayout layout)
      : rows(rows),
        cols(cols),
        layout(layout),
        q(rows * cols),
        scales(num_scales(layout, rows, cols), NAN) {}

  float& scale(int64_t row, int64_t col) {
    return scales[scale_index(layout, rows, cols, row, col)];
  }

  std::vector<float> values() const {
    std::vector<float> result(q.size());
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t c = 0; c < cols; c++) {
        result[r * cols + c] =
            from_e4m3(q[r * cols + c]) * scales[scale_index(layout, rows, cols, r, c)];
      }
    }
    return result;
  }
};

enum class Data { exact, random };

// exact: integers -3..3 and scales 1/2, 1, 2, so that every FP32 sum of a product is exact up to K
// = 58,000 and in any order. random: E4M3 of normal numbers, and scales around 1/100. Padding of
// the scales stays NaN.
inline Fp8Matrix make_matrix(int64_t rows, int64_t cols, ScaleLayout layout, Data data,
                             unsigned seed) {
  Fp8Matrix matrix(rows, cols, layout);
  std::mt19937 engine(seed);
  if (data == Data::exact) {
    for (auto& q : matrix.q) q = to_e4m3(static_cast<float>(static_cast<int>(engine() % 7) - 3));
  } else {
    std::vector<uint8_t> normal(
        4096);  // a normal number for every element would take most of the test's time
    std::normal_distribution<float> distribution(0, 100);
    for (auto& q : normal) q = to_e4m3(distribution(engine));
    for (auto& q : matrix.q) q = normal[engine() >> 20];
  }
  for (int64_t r = 0; r < rows; r += layout == ScaleLayout::rows_1x128 ? 1 : kScaleBlock) {
    for (int64_t c = 0; c < cols; c += kScaleBlock) {
      matrix.scale(r, c) = data == Data::exact
                               ? std::ldexp(1.0f, static_cast<int>(engine() % 3) - 1)
                               : 0.005f + 1e-5f * static_cast<float>(engine() % 1000);
    }
  }
  return matrix;
}

// sum[row, col] += over [first, end) of a[a_row + row, k] b[b_row + col, k]. Values as of
// Fp8Matrix::values().
inline double dot(const std::vector<float>& a, int64_t a_row, const std::vector<float>& b,
                  int64_t b_row, int64_t cols, int64_t first, int64_t end) {
  const float *x = a.data() + a_row * cols, *y = b.data() + b_row * cols;
  double sum = 0;
  for (int64_t k = first; k < end; k++) sum += static_cast<double>(x[k]) * y[k];
  return sum;
}

inline float rounded_to_bf16(double value) {
  return to_float(to_bfloat16(static_cast<float>(value)));
}

inline std::vector<float> floats_of_bf16(const std::vector<uint16_t>& bits) {
  std::vector<float> result(bits.size());
  for (size_t i = 0; i < bits.size(); i++) result[i] = bf16_bits_to_float(bits[i]);
  return result;
}

// 1 - 2 <x, y> / (|x|^2 + |y|^2): DeepGEMM's measure.
inline double calc_diff(const std::vector<float>& x, const std::vector<float>& y) {
  double both = 0, squares = 0;
  for (size_t i = 0; i < x.size(); i++) {
    both += static_cast<double>(x[i]) * y[i];
    squares += static_cast<double>(x[i]) * x[i] + static_cast<double>(y[i]) * y[i];
  }
  return squares == 0 ? 0 : 1 - 2 * both / squares;
}

inline std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

// An empty string if got == want bit by bit (NaN never is), else what is wrong: how many, where, in
// what pattern. `partial`, if given, makes the sum of one block of 128 of K at (row, col); a result
// that lacks or doubles one block, or has one block alone, is named so.
template <class Partial>
std::string differences(const std::vector<float>& got, const std::vector<float>& want, int64_t rows,
                        int64_t cols, int64_t num_blocks_k, const Partial& partial) {
  std::vector<int64_t> wrong;
  int64_t num_nan = 0, num_zero = 0;
  for (int64_t i = 0; i < rows * cols; i++) {
    if (got[i] == want[i]) continue;
    wrong.push_back(i);
    num_nan += std::isnan(got[i]);
    num_zero += got[i] == 0;
  }
  if (wrong.empty()) return "";
  std::string text = std::to_string(wrong.size()) + " of " + std::to_string(rows * cols) +
                     " wrong (" + std::to_string(num_nan) + " NaN or never written, " +
                     std::to_string(num_zero) + " zero)\n";
  for (size_t i = 0; i < wrong.size() && i < 6; i++) {
    const int64_t row = wrong[i] / cols, col = wrong[i] % cols;
    text += "  (" + std::to_string(row) + ", " + std::to_string(col) + "): got " +
            number(got[wrong[i]]) + ", want " + number(want[wrong[i]]) + "\n";
  }
  const int64_t row = wrong[0] / cols, col = wrong[0] % cols;
  const double difference = static_cast<double>(got[wrong[0]]) - want[wrong[0]];
  for (int64_t k = 0; k < num_blocks_k; k++) {
    const double part = partial(row, col, k);
    if (part == 0) continue;
    const char* what = difference == -part     ? "lacks"
                       : difference == part    ? "has twice"
                       : got[wrong[0]] == part ? "is alone"
                                               : nullptr;
    if (what != nullptr)
      text += std::string("  the first ") + what + " K block " + std::to_string(k) + "\n";
  }
  const auto histogram = [&](const char* name, int64_t buckets, auto bucket_of) {
    std::vector<int64_t> counts(buckets);
    for (int64_t i : wrong) counts[bucket_of(i / cols, i % cols)]++;
    text += std::string("  by ") + name + ":";
    for (int64_t count : counts) text += " " + std::to_string(count);
    text += "\n";
  };
  const int64_t tile_rows = ceil_div(rows, 64), tile_cols = ceil_div(cols, 64);
  if (tile_rows * tile_cols <= 128) {
    histogram("64x64 tile, row by row", tile_rows * tile_cols,
              [&](int64_t r, int64_t c) { return r / 64 * tile_cols + c / 64; });
  } else {
    if (tile_rows <= 64) histogram("64 rows", tile_rows, [](int64_t r, int64_t) { return r / 64; });
    if (tile_cols <= 128)
      histogram("64 columns", tile_cols, [](int64_t, int64_t c) { return c / 64; });
  }
  histogram("row % 16", 16, [](int64_t r, int64_t) { return r % 16; });
  histogram("column / 8 % 8", 8, [](int64_t, int64_t c) { return c / 8 % 8; });
  histogram("column % 8", 8, [](int64_t, int64_t c) { return c % 8; });
  return text;
}

inline std::string differences(const std::vector<float>& got, const std::vector<float>& want,
                               int64_t rows, int64_t cols) {
  return differences(got, want, rows, cols, 0, [](int64_t, int64_t, int64_t) { return 0.0; });
}

}  // namespace strait::cuda
