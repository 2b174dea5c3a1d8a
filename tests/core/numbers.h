// tests/core/numbers.h: tensors from numbers, and back.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <vector>

#include "core/context.h"

namespace strait::test {

using Numbers = std::vector<double>;

inline double rounded(double value, DType dtype) {
  const float single = static_cast<float>(value);
  return dtype == DType::bf16 ? to_float(to_bfloat16(single)) : single;
}

// Standard normal numbers times `scale`, as the type holds them.
inline Numbers random_numbers(int64_t count, uint32_t seed, double scale = 1,
                              DType dtype = DType::f32) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, scale);
  Numbers numbers(static_cast<size_t>(count));
  for (double& number : numbers) number = rounded(normal(generator), dtype);
  return numbers;
}

inline void write(const Tensor& tensor, const Numbers& numbers) {
  ASSERT_EQ(tensor.numel(), static_cast<int64_t>(numbers.size()));
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    for (int64_t c = 0; c < tensor.cols(); ++c) {
      const int64_t at = r * tensor.row_stride() + c;
      const double number = numbers[static_cast<size_t>(r * tensor.cols() + c)];
      switch (tensor.dtype()) {
        case DType::f32:
          tensor.data<float>()[at] = static_cast<float>(number);
          break;
        case DType::bf16:
          tensor.data<bfloat16>()[at] = to_bfloat16(static_cast<float>(number));
          break;
        case DType::i32:
          tensor.data<int32_t>()[at] = static_cast<int32_t>(number);
          break;
        case DType::i64:
          tensor.data<int64_t>()[at] = static_cast<int64_t>(number);
          break;
        default:
          FAIL();
      }
    }
  }
}

inline Numbers read(const Tensor& tensor) {
  Numbers numbers;
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    for (int64_t c = 0; c < tensor.cols(); ++c) {
      const int64_t at = r * tensor.row_stride() + c;
      switch (tensor.dtype()) {
        case DType::f32:
          numbers.push_back(tensor.data<float>()[at]);
          break;
        case DType::bf16:
          numbers.push_back(to_float(tensor.data<bfloat16>()[at]));
          break;
        case DType::i32:
          numbers.push_back(tensor.data<int32_t>()[at]);
          break;
        case DType::i64:
          numbers.push_back(static_cast<double>(tensor.data<int64_t>()[at]));
          break;
        default:
          ADD_FAILURE();
      }
    }
  }
  return numbers;
}

inline Tensor tensor_of(Context& ctx, Shape shape, DType dtype, const Numbers& numbers) {
  Tensor tensor = ctx.empty(shape, dtype, Purpose::activations);
  write(tensor, numbers);
  return tensor;
}

}  // namespace strait::test
