// core/ops/gemm.h: matrix products of linear layers, dense and grouped by expert, on the CPU.
//
// T (or R) rows of tokens, K input features, N output features, E experts. A weight is [N, K] as in
// Hugging Face: y = x W^T. The weight is packed once per optimizer step into the order the kernel
// reads, because at few rows per expert packing costs more than the product.
//
// Precision. The compute dtype is f32, bf16 or e4m3; products are summed in FP32 always. With bf16,
// FP32 operands are rounded to BF16 (nearest even) as they are read, and subnormal BF16 inputs and
// results may count as zero. With e4m3, operands are codes with scales; every 128 terms their sum
// times the product of the two scales is added to the result by one fused multiply-add (source:
// DeepSeek-V3 report, section 3.3.2). Determinism. An element of the result depends on its own row
// of x, its own row of the weight and on K, and on nothing else: not on the number of rows, the
// other rows, the group layout or the thread count. Matrices may be column views (row_stride() >
// cols()) unless said otherwise; operands may not overlap results. Sizes of 0 are fine: a product
// over no terms is zero. On Device::meta nothing runs.
#pragma once

#include <cstdint>
#include <span>

#include "core/context.h"
#include "core/ops/accumulate.h"
#include "core/ops/quantize.h"
#include "core/tensor.h"

namespace strait {

// Which product a packed weight serves. `both` keeps two packed copies.
enum class Orientation : uint8_t { forward = 1, input_gradient = 2, both = 3 };

// A matrix as a product reads it: FP32, BF16, or FP8 codes with their scales.
struct GemmOperand {
  GemmOperand(const Tensor& matrix) : values(matrix) {}  // NOLINT(google-explicit-constructor)
  GemmOperand(const Fp8Matrix& matrix)                   // NOLINT(google-explicit-constructor)
      : values(matrix.codes_RC), scales(matrix.scales), layout(matrix.layout) {}
  bool fp8() const { return scales.defined(); }

  Tensor values, scales;
  ScaleLayout layout = ScaleLayout::rows_1x128;  // of FP8
};

// A weight [N, K], or a stack of them [E, N, K], in the order the kernel reads.
class PackedWeight {
 public:
  PackedWeight() = default;
  explicit PackedWeight(Orientation orientation) : orientation_(orientation) {}

  // Copies `weight` (f32 or bf16, [N, K] or contiguous [E, N, K]) as `compute`: f32, bf16, or e4m3
  // with a scale for each block of 128 x 128 of an expert, kept as BF16. The storage
  // (Purpose::packed_weights) is kept from call to call while shape and `compute` stay the same.
  void pack(Context& context, const Tensor& weight, DType compute);

  bool packed() const { return num_experts_ > 0; }
  Orientation orientation() const { return orientation_; }
  DType compute() const { return compute_; }
  int64_t num_experts() const { return num_experts_; }  // 1 for a plain weight, 0 before pack()
  int64_t out_features() const { return out_features_; }
  int64_t in_features() const { return in_features_; }
  int64_t bytes() const;
  bool serves(Orientation orientation) const;

  // The packed copy for `orientation`: num_experts() blocks of equal size. For the ops of this
  // file.
  const Tensor& storage(Orientation orientation) const;
  // With e4m3, FP32 [num_experts(), num_scales(blocks_128x128, N, K)].
  const Tensor& scales() const { return scales_; }

 private:
  void pack_panels(Context& context, const Tensor& weight);

  Orientation orientation_ = Orientation::both;
  DType compute_ = DType::f32;
  int64_t num_experts_ = 0, out_features_ = 0, in_features_ = 0;
  Tensor forward_, input_gradient_, scales_;
};

// y = x W^T (+ y). x is f32 or bf16 with a bf16 weight, f32 with an f32 weight, FP8 in tiles of
// 1x128 with an e4m3 weight; y is f32 or bf16, and f32 to accumulate. REQUIRES: weight serves
// Orientation::forward and holds one expert.
void linear(Context& context, const GemmOperand& x_TK, const PackedWeight& weight,
            const Tensor& y_TN, Accumulate accumulate = Accumulate::no);

// dx = dy W (+ dx), dtypes as above. REQUIRES: weight serves Orientation::input_gradient, one
// expert.
void linear_input_gradient(Context& context, const GemmOperand& dy_TN, const PackedWeight& weight,
                           const Tensor& dx_TK, Accumulate accumulate = Accumulate::no);

// dw = dy^T x (+ dw), a sum over the rows. dy and x are f32 or bf16; if either is bf16 the compute
// dtype is bf16. Or both are FP8 in tiles of 128x1, made with the offsets of the product (here {0,
// T}). dw is f32.
void linear_weight_gradient(Context& context, const GemmOperand& dy_TN, const GemmOperand& x_TK,
                            const Tensor& dw_NK, Accumulate accumulate = Accumulate::no);

// The same three for rows sorted by expert: rows [offsets[e], offsets[e+1]) belong to expert e.
// `offsets` has E+1 entries, starts at 0 and does not fall; rows past the last offset are neither
// read nor written. On Device::meta it holds the expected counts.
void grouped_linear(Context& context, const GemmOperand& x_RK, std::span<const int64_t> offsets,
                    const PackedWeight& weights, const Tensor& y_RN,
                    Accumulate accumulate = Accumulate::no);
void grouped_linear_input_gradient(Context& context, const GemmOperand& dy_RN,
                                   std::span<const int64_t> offsets, const PackedWeight& weights,
                                   const Tensor& dx_RK, Accumulate accumulate = Accumulate::no);
// dw is a contiguous [E, N, K]; the gradient of an expert without rows is zero (or left as it was).
void grouped_linear_weight_gradient(Context& context, const GemmOperand& dy_RN,
                                    const GemmOperand& x_RK, std::span<const int64_t> offsets,
                                    const Tensor& dw_ENK, Accumulate accumulate = Accumulate::no);

}  // namespace strait
