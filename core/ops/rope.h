// core/ops/rope.h: rotary position embedding on interleaved pairs, with YaRN context extension.
// The pair (x[2i], x[2i+1]) of a position p turns by the angle p * frequency_i: the layout in which
// DeepSeek publishes its weights.
// Source: RoFormer, section 3.4; YaRN, sections 3.2 to 3.4; DeepSeek-V2 report, section 3.1.4.
#pragma once

#include <cstdint>

#include "core/context.h"
#include "core/tensor.h"

namespace strait {

// YaRN, in the words of config.json's "rope_scaling". factor <= 1: plain RoPE, and nothing else is
// read.
struct YarnScaling {
  double factor = 1;
  int64_t original_max_position_embeddings = 4096;
  double beta_fast = 32, beta_slow = 1;  // turns within the original context that bound the ramp
  double mscale = 1, mscale_all_dim = 0;
};

struct RopeTableSettings {
  double theta = 10000;
  int64_t rope_dim = 0;       // even
  int64_t max_positions = 0;  // positions 0 .. max_positions - 1
  YarnScaling yarn = {};
};

struct RopeTable {
  Tensor cos_sin;  // f32 [max_positions, rope_dim]: cos and sin of pair 0, of pair 1, ...
  int64_t rope_dim() const { return cos_sin.cols(); }
  int64_t max_positions() const { return cos_sin.rows(); }
};

// The angle of pair i per position, for i < rope_dim / 2. With YaRN, fast pairs keep
// theta^(-2i/rope_dim), slow ones are divided by `factor`, and a linear ramp joins them.
double rope_frequency(const RopeTableSettings& settings, int64_t pair);

// YaRN's temperature: 1 when scale <= 1, else 0.1 * mscale * ln(scale) + 1.
double yarn_mscale(double scale, double mscale);

// Cosines and sines, computed in double and rounded once. With YaRN both carry the factor
// yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim), as the published model does.
// Throws RecipeError when a setting is out of range.
RopeTable make_rope_table(Context& ctx, const RopeTableSettings& settings);

// 1 / sqrt(qk_dim), times yarn_mscale(factor, mscale_all_dim)^2 when YaRN is on and mscale_all_dim
// is set.
double attention_softmax_scale(int64_t qk_dim, const YarnScaling& yarn);

enum class RopeDirection : uint8_t {
  forward,
  inverse,  // the transpose of forward: what a gradient goes through
};

// Where the rotated columns lie in a row, and which position a row has.
struct RopeLayout {
  int64_t num_heads = 1;
  int64_t head_stride = 0;      // columns from one head to the next
  int64_t offset = 0;           // of the first rotated column within a head
  int64_t sequence_length = 0;  // row r has position start_position + r % sequence_length
  int64_t start_position = 0;
};

// Rotates, in place, the columns [h * head_stride + offset, + rope_dim) of every row of x for every
// head h. x [T, ...] is f32 or bf16 and may be a column view; arithmetic is FP32, rounded once.
// Throws InternalError when the columns do not fit in x or a position is not in the table.
void rope(Context& ctx, const Tensor& x, const RopeLayout& layout, const RopeTable& table,
          RopeDirection direction);

}  // namespace strait
