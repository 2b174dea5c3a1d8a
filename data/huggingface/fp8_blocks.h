// data/huggingface/fp8_blocks.h: weights in the published FP8 format: E4M3 codes [out, in] beside
// "<name>_scale_inv", the FP32 scale of each block of 128 x 128 (blocks at the edges are smaller).
// A value is its code times its block's scale. Source: DeepSeek-V3's README_WEIGHTS.md, section
// "FP8 weight documentation".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/huggingface/safetensors.h"

namespace strait::huggingface {

// Whether a folder in FP8 has this tensor in FP8: the linear layers of attention, dense MLPs and
// experts. Embedding, head, router, norms and the MTP module's joining projection are not.
bool is_fp8_weight(const std::string& name);

std::string scales_name(const std::string& weight);
// Of a weight [out, in].
std::vector<int64_t> scales_shape(const std::vector<int64_t>& weight_shape);

// Up to 128 rows of a weight with `cols` columns, all of one row of blocks: codes (as many as
// values) and scales [ceil(cols / 128)]. As quantize_blocks of core/ops/quantize.h with the
// published floor of the largest magnitude. Quantised again, what they stand for gives the same.
void quantise_block_row(std::span<const float> values, int64_t cols, std::span<uint8_t> codes,
                        std::span<float> scales);

// Elements [offset, offset + codes.size()) of a weight with `cols` columns.
void dequantise_blocks(std::span<const uint8_t> codes, int64_t offset, int64_t cols,
                       std::span<const float> scales, std::span<float> values);

}  // namespace strait::huggingface
