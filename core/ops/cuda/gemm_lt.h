// core/ops/cuda/gemm_lt.h: dense matrix products through cuBLASLt: FP8 with block scales (Hopper)
// and BF16.
//
// Row-major: d[M, N] = x[M, K] w[N, K]^T + beta d, sums in FP32.
//   FP8 forward and input gradient: x has scales of 1x128, w of 128x128 (either way round is taken)
//   FP8 weight gradient: both 1x128, d FP32, beta 1: added to the gradient in place
// A product's plan (cuBLASLt's search for an algorithm takes far longer than a launch) is made at
// its first use and kept. Products of one GemmLt share its workspace: they belong on one stream.
// Not thread-safe.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/ops/cuda/device.h"
#include "core/ops/math/scales.h"

namespace strait::cuda {

enum class GemmInput : uint8_t { fp8, bf16 };
enum class GemmOutput : uint8_t { bf16, f32 };

// What is asked; the key of a plan.
struct GemmShape {
  GemmInput input = GemmInput::fp8;
  GemmOutput output = GemmOutput::bf16;
  int64_t m = 0, n = 0, k = 0;
  ScaleLayout x_layout = ScaleLayout::rows_1x128,
              w_layout = ScaleLayout::blocks_128x128;  // FP8 alone
  int num_sms = 0;  // the algorithm is chosen for so many multiprocessors; 0: all

  auto operator<=>(const GemmShape&) const = default;
  std::string text() const;  // "fp8 4096x2112x7168 (1x128, 128x128) -> bf16"
};

// Why cuBLASLt does not take this product, or an empty string: "m = 12 is no multiple of 8 ...".
// Needs no device.
std::string why_refused(const GemmShape& shape);

// Matrices. REQUIRES: at multiples of 256 bytes.
struct GemmOperands {
  const void* x = nullptr;          // [M, K]
  const void* w = nullptr;          // [N, K]
  void* d = nullptr;                // [M, N]
  const float* x_scales = nullptr;  // FP8: as in core/ops/math/scales.h
  const float* w_scales = nullptr;
  bool accumulate = false;  // REQUIRES: FP32 output
};

class GemmLt {
 public:
  GemmLt();  // throws DeviceError where there is no device
  ~GemmLt();
  GemmLt(const GemmLt&) = delete;
  GemmLt& operator=(const GemmLt&) = delete;

  // Throws InternalError with why_refused()'s reason, DeviceError where cuBLASLt has no algorithm.
  void run(const GemmShape& shape, const GemmOperands& operands, cudaStream_t stream);

  size_t num_plans() const { return plans_.size(); }

 private:
  class Plan;
  Plan& plan(const GemmShape& shape, const GemmOperands& operands);

  cublasLtHandle_t handle_ = nullptr;
  Buffer workspace_;
  std::map<GemmShape, std::unique_ptr<Plan>> plans_;
};

}  // namespace strait::cuda
