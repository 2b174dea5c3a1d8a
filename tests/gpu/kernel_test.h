// tests/gpu/kernel_test.h: what the tests of plain kernels share. They are two programs of
// the same source: ..._gpu_test runs the kernels on a device, and ..._fiber_test runs their own
// source on the CPU (plain_kernels_fiber_test.cpp). Both compare with the CPU's ops, bit by bit
// unless said otherwise.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/context.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cuda/rows.h"
#include "tests/core/numbers.h"
#include "tests/gpu/gpu_test.h"

namespace strait::cuda {

// Why kernels cannot run in this program, or nothing.
std::string why_no_kernels();

class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason = why_no_kernels();
    if (reason.empty() && cpu::isa() == cpu::Isa::portable) {
      reason = "the CPU's ops have these bits on machines with fused multiply-add only";
    }
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
  Context ctx_{strait::Device::cpu, 1};
};

// A matrix on the CPU and its twin where kernels run, both inside of wider ones.
class Twin {
 public:
  Twin(Context& ctx, int64_t rows, int64_t cols, DType dtype, const test::Numbers& numbers,
       int64_t gap = 0)
      : wide_(ctx.empty({rows, cols + gap}, dtype, Purpose::activations)),
        tensor(wide_.slice_cols(gap / 2, cols)) {
    test::write(wide_, test::Numbers(static_cast<size_t>(wide_.numel()), 77));
    test::write(tensor, numbers);
    device_ = upload(bytes());
  }
  // Of normal numbers.
  Twin(Context& ctx, int64_t rows, int64_t cols, DType dtype, uint32_t seed, int64_t gap = 0,
       double scale = 1)
      : Twin(ctx, rows, cols, dtype, test::random_numbers(rows * cols, seed, scale, dtype), gap) {}

  Rows rows() const {
    const int64_t offset = tensor.raw() - wide_.raw();
    return {device_.as<char>() + offset, tensor.row_stride(), tensor.dtype() == DType::bf16};
  }
  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(rows().data);
  }
  template <class T>
  std::vector<T> device() const {
    return download<T>(device_);
  }
  // Numbers set on the CPU, to the kernels' side.
  void update() { device_ = upload(bytes()); }

  // Both have the same bits, outside of the matrix too; NaN is NaN.
  void expect_same(const char* what) const {
    const std::vector<char> got = download<char>(device_), want = bytes();
    const auto size = size_of(tensor.dtype());
    for (size_t at = 0; at < want.size(); at += size) {
      if (std::memcmp(&got[at], &want[at], size) == 0) continue;
      if (is_nan(&got[at]) && is_nan(&want[at])) continue;
      const auto index = static_cast<int64_t>(at / size), stride = wide_.cols();
      FAIL() << what << " (" << index / stride << ", " << index % stride << " of " << stride
             << "): got " << hex(&got[at], size) << ", want " << hex(&want[at], size);
    }
  }

 private:
  std::vector<char> bytes() const {
    const auto* begin = reinterpret_cast<const char*>(wide_.raw());
    return {begin, begin + wide_.bytes()};
  }
  bool is_nan(const char* at) const {
    if (tensor.dtype() != DType::f32 && tensor.dtype() != DType::bf16) return false;
    float value = 0;
    if (tensor.dtype() == DType::f32) {
      std::memcpy(&value, at, 4);
    } else {
      bfloat16 bits;
      std::memcpy(&bits, at, 2);
      value = to_float(bits);
    }
    return std::isnan(value);
  }
  static std::string hex(const char* at, size_t size) {
    std::string text;
    for (size_t i = size; i-- > 0;) {
      constexpr const char* kDigits = "0123456789abcdef";
      text += {kDigits[(at[i] >> 4) & 15], kDigits[at[i] & 15]};
    }
    return text;
  }

  Tensor wide_;
  Buffer device_;

 public:
  Tensor tensor;
};

template <class T>
void expect_same(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); i++) ASSERT_EQ(got[i], want[i]) << what << " at " << i;
}

}  // namespace strait::cuda
