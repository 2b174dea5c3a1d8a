// core/ops/quantize.h: matrices in FP8 (E4M3) with an FP32 scale for each tile, and attention's
// output in E5M6.   R rows, C columns.
//
// An element's value is its code times its tile's scale (core/ops/math/fp8.h,
// core/ops/math/scales.h). The scale of a tile is its largest magnitude / 448, a true division, and
// 1 for a tile of zeros; elements are divided by it, truly too. NaN counts as nothing for a scale
// and stays NaN; with an infinity in it a tile becomes zeros and NaN. So what is not finite never
// vanishes; quantisers of rows, of blocks and to E5M6 also tell the Context (take_not_finite). The
// same bits on every instruction set, on every number of threads and on the GPU. Sources are f32 or
// bf16 and may have strided rows; results are contiguous, codes u8. Source: DeepSeek-V3 report,
// section 3.3.
#pragma once

#include <span>
#include <string>

#include "core/context.h"
#include "core/ops/math/fp8.h"
#include "core/ops/math/scales.h"

namespace strait {

struct QuantizeSettings {
  float least_max = 0;        // a tile's largest magnitude counts as this at least; of gradients 0
  bool power_of_two = false;  // scales rounded up to one: then products with them are exact in BF16
};

// What training uses.
inline constexpr QuantizeSettings kActivationScales{.least_max = kLeastPublishedMax},
    kWeightScales{.least_max = kLeastPublishedMax}, kGradientScales{};

// Throws NotFiniteError, "<what><name> has numbers that are not finite", if something that has been
// quantised since the last call was not finite.
void require_finite(Context& ctx, const char* what, const std::string& name);

struct Fp8Matrix {
  Tensor codes_RC;
  Tensor scales;  // [num_scales(layout, R, C)]; entries that no tile has are not written
  ScaleLayout layout = ScaleLayout::rows_1x128;
};

// Uninitialised. REQUIRES: a layout but columns_128x1.
Fp8Matrix empty_fp8(Context& ctx, int64_t rows, int64_t cols, ScaleLayout layout, Purpose purpose);

// Tiles of 1 x 128: for products that sum over C.
void quantize_rows(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                   Fp8Matrix& q_RC);
// Tiles of 128 x 1, stored transposed, where they are 1 x 128: for products that sum over R.
void quantize_columns(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                      Fp8Matrix& q_CR);
// Tiles of 128 x 128: weights.
void quantize_blocks(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                     Fp8Matrix& q_RC);

// Tiles of 128 x 1 along the rows [offsets[g], offsets[g + 1]) of each group, the codes where x has
// its elements: for the CPU's weight gradients. Codes and scales are those of the transposed form.
// Rows past the last offset are not read.
Fp8Matrix empty_fp8_columns(Context& ctx, int64_t rows, int64_t cols, int64_t groups,
                            Purpose purpose);
void quantize_columns(Context& ctx, const Tensor& x_RC, std::span<const int64_t> offsets,
                      const QuantizeSettings& settings, Fp8Matrix& q_RC);
// The same of what dequantize gives, in FP32.
void requantize_columns(Context& ctx, const Fp8Matrix& x_RC, std::span<const int64_t> offsets,
                        const QuantizeSettings& settings, Fp8Matrix& q_RC);

// New matrices in tiles of 1 x 128 and of 128 x 1.
Fp8Matrix fp8_rows_of(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                      Purpose purpose);
Fp8Matrix fp8_columns_of(Context& ctx, const Tensor& x_RC, std::span<const int64_t> offsets,
                         const QuantizeSettings& settings, Purpose purpose);

// For studies: a tile's scale is that of a block of 128 x 128, counted from each group's first row.
// One set of codes in two forms, for products over C and over a group's R.
struct Fp8Blocks {
  Fp8Matrix rows, columns;
};
Fp8Blocks fp8_blocks_of(Context& ctx, const Tensor& x_RC, std::span<const int64_t> offsets,
                        const QuantizeSettings& settings, Purpose purpose);

void dequantize(Context& ctx, const Fp8Matrix& q_RC, Tensor& x_RC);
// quantize_columns of what dequantize gives, in FP32.
void requantize_columns(Context& ctx, const Fp8Matrix& q_RC, const QuantizeSettings& settings,
                        Fp8Matrix& q_CR);

// Rows as they travel between ranks: [R, fp8_wire_words(C)] FP32 words that hold a row's C codes
// and then its scales. REQUIRES: C % 4 == 0.
constexpr int64_t fp8_wire_words(int64_t cols) { return cols / 4 + ceil_div(cols, kScaleBlock); }
// wire[r] = row rows_R[r] of q, which has tiles of 1 x 128.
void pack_fp8_wire(Context& ctx, const Fp8Matrix& q, const Tensor& rows_R, Tensor& wire);
// wire[r] = x[r] quantised.
void encode_fp8_wire(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                     const Tensor& wire);
// Rows [begin, end) alone, for a caller without a Context of its own: whether they are finite.
bool encode_fp8_wire_part(const Tensor& x_RC, const QuantizeSettings& settings, int64_t begin,
                          int64_t end, const Tensor& wire);
void unpack_fp8_wire(Context& ctx, const Tensor& wire, Fp8Matrix& q_RC);
void unpack_fp8_wire(Context& ctx, const Tensor& wire, Tensor& x_RC);  // to what the codes mean

// out[r] = x[index_R[r]], codes and scales. Both have tiles of 1 x 128.
void gather_rows(Context& ctx, const Fp8Matrix& x, const Tensor& index_R, Fp8Matrix& out);

// E5M6 in tiles of 1 x 128 with power-of-two scales; two codes of 12 bits in three bytes, the first
// in the lower bits.
struct E5m6Matrix {
  Tensor bytes;   // u8 [R, 3 * ceil(C / 2)]
  Tensor scales;  // as rows_1x128 of [R, C]
};
E5m6Matrix empty_e5m6(Context& ctx, int64_t rows, int64_t cols, Purpose purpose);
void quantize_e5m6(Context& ctx, const Tensor& x_RC, E5m6Matrix& q_RC);
void dequantize_e5m6(Context& ctx, const E5m6Matrix& q_RC, Tensor& x_RC);

}  // namespace strait
