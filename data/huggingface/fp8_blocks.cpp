#include "data/huggingface/fp8_blocks.h"

#include <algorithm>
#include <cmath>

#include "core/ops/math/fp8.h"
#include "core/ops/math/scales.h"

namespace strait::huggingface {

bool is_fp8_weight(const std::string& name) {
  const bool in_layer =
      name.find(".self_attn.") != std::string::npos || name.find(".mlp.") != std::string::npos;
  return in_layer && (name.ends_with("_proj.weight") || name.ends_with("_proj_with_mqa.weight"));
}

std::string scales_name(const std::string& weight) { return weight + "_scale_inv"; }

std::vector<int64_t> scales_shape(const std::vector<int64_t>& weight_shape) {
  return {ceil_div(weight_shape[0], kScaleBlock), ceil_div(weight_shape[1], kScaleBlock)};
}

void quantise_block_row(std::span<const float> values, int64_t cols, std::span<uint8_t> codes,
                        std::span<float> scales) {
  const auto num_values = static_cast<int64_t>(values.size());
  for (int64_t first = 0; first < cols; first += kScaleBlock) {
    const int64_t last = std::min<int64_t>(first + kScaleBlock, cols);
    float most = kLeastPublishedMax;
    for (int64_t row = 0; row < num_values; row += cols)
      for (int64_t at = row + first; at < row + last; ++at)
        most = std::max(most, std::fabs(values[static_cast<size_t>(at)]));
    const float scale = fp8_scale(most);
    scales[static_cast<size_t>(first / kScaleBlock)] = scale;
    for (int64_t row = 0; row < num_values; row += cols)
      for (int64_t at = row + first; at < row + last; ++at)
        codes[static_cast<size_t>(at)] = to_e4m3(values[static_cast<size_t>(at)] / scale);
  }
}

void dequantise_blocks(std::span<const uint8_t> codes, int64_t offset, int64_t cols,
                       std::span<const float> scales, std::span<float> values) {
  const int64_t blocks = ceil_div(cols, kScaleBlock);
  for (size_t i = 0; i < codes.size(); ++i) {
    const int64_t at = offset + static_cast<int64_t>(i);
    const int64_t block = at / cols / kScaleBlock * blocks + at % cols / kScaleBlock;
    values[i] = from_e4m3(codes[i]) * scales[static_cast<size_t>(block)];
  }
}

}  // namespace strait::huggingface
