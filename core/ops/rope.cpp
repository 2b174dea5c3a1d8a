#include "core/ops/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/rope.h"

namespace strait {
namespace {

constexpr int64_t kRowsPerTask = 64;

void check(const RopeTableSettings& settings) {
  const YarnScaling& yarn = settings.yarn;
  if (settings.rope_dim < 0 || settings.rope_dim % 2 != 0 || settings.max_positions < 1)
    throw RecipeError(
        fmt::format("[rope] qk_rope_head_dim {} must be even and max positions {} at least 1",
                    settings.rope_dim, settings.max_positions));
  if (!(settings.theta > 1))
    throw RecipeError(fmt::format("[rope] rope_theta must be above 1, got {}", settings.theta));
  if (!(yarn.factor > 0) || !(yarn.beta_slow > 0) || !(yarn.beta_fast >= yarn.beta_slow) ||
      yarn.original_max_position_embeddings < 1)
    throw RecipeError(fmt::format(
        "[rope] rope_scaling needs factor > 0, beta_fast >= beta_slow > 0 and "
        "original_max_position_embeddings >= 1, got {}, {}, {}, {}",
        yarn.factor, yarn.beta_fast, yarn.beta_slow, yarn.original_max_position_embeddings));
}

// The pair (as a real number) that makes `turns` full turns within the original context.
double pair_of_turns(double turns, const RopeTableSettings& settings) {
  const double context = static_cast<double>(settings.yarn.original_max_position_embeddings);
  return static_cast<double>(settings.rope_dim) *
         std::log(context / (turns * 2 * std::numbers::pi)) / (2 * std::log(settings.theta));
}

}  // namespace

double rope_frequency(const RopeTableSettings& settings, int64_t pair) {
  const double dim = static_cast<double>(settings.rope_dim);
  const double plain = std::pow(settings.theta, -2.0 * static_cast<double>(pair) / dim);
  const YarnScaling& yarn = settings.yarn;
  if (yarn.factor <= 1) return plain;
  const double low = std::max(std::floor(pair_of_turns(yarn.beta_fast, settings)), 0.0);
  double high = std::min(std::ceil(pair_of_turns(yarn.beta_slow, settings)), dim - 1);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  return plain * (1 - ramp) + plain / yarn.factor * ramp;
}

double yarn_mscale(double scale, double mscale) {
  return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

RopeTable make_rope_table(Context& ctx, const RopeTableSettings& settings) {
  check(settings);
  const YarnScaling& yarn = settings.yarn;
  RopeTable table{
      ctx.empty({settings.max_positions, settings.rope_dim}, DType::f32, Purpose::weights)};
  if (ctx.device() == Device::meta || settings.rope_dim == 0) return table;
  const double factor =
      yarn_mscale(yarn.factor, yarn.mscale) / yarn_mscale(yarn.factor, yarn.mscale_all_dim);
  for (int64_t pair = 0; pair < settings.rope_dim / 2; ++pair) {
    const double frequency = rope_frequency(settings, pair);
    float* entry = table.cos_sin.data<float>() + 2 * pair;
    for (int64_t position = 0; position < settings.max_positions; ++position) {
      const double angle = static_cast<double>(position) * frequency;
      entry[0] = static_cast<float>(std::cos(angle) * factor);
      entry[1] = static_cast<float>(std::sin(angle) * factor);
      entry += settings.rope_dim;
    }
  }
  return table;
}

double attention_softmax_scale(int64_t qk_dim, const YarnScaling& yarn) {
  const double plain = 1 / std::sqrt(static_cast<double>(qk_dim));
  if (yarn.factor <= 1 || yarn.mscale_all_dim == 0) return plain;
  const double mscale = yarn_mscale(yarn.factor, yarn.mscale_all_dim);
  return plain * mscale * mscale;
}

void rope(Context& ctx, const Tensor& x, const RopeLayout& layout, const RopeTable& table,
          RopeDirection direction) {
  const int64_t rows = x.rows(), dim = table.rope_dim();
  STRAIT_CHECK(x.dtype() == DType::f32 || x.dtype() == DType::bf16,
               fmt::format("[rope] x must be f32 or bf16, got {}", name_of(x.dtype())));
  STRAIT_CHECK(layout.num_heads >= 1 && layout.head_stride >= 0 && layout.offset >= 0 &&
                   (layout.num_heads - 1) * layout.head_stride + layout.offset + dim <= x.cols() &&
                   (layout.num_heads == 1 || layout.offset + dim <= layout.head_stride),
               fmt::format("[rope] {} heads of stride {}, columns {} to {} do not fit in {}",
                           layout.num_heads, layout.head_stride, layout.offset, layout.offset + dim,
                           x.shape().str()));
  STRAIT_CHECK(
      layout.sequence_length >= 1 && rows % layout.sequence_length == 0,
      fmt::format("[rope] {} rows are not whole sequences of {}", rows, layout.sequence_length));
  STRAIT_CHECK(
      layout.start_position >= 0 &&
          layout.start_position + layout.sequence_length <= table.max_positions(),
      fmt::format("[rope] positions {} to {} are not in a table of {}", layout.start_position,
                  layout.start_position + layout.sequence_length - 1, table.max_positions()));
  const double values = static_cast<double>(rows * layout.num_heads * dim);
  const Cost cost{.flops = 3 * values,
                  .bytes = 2 * values * static_cast<double>(size_of(x.dtype()))};
  ctx.run(cost, [&] {
    if (rows == 0 || dim == 0) return;
    const cpu::RopeKernelArgs args{.num_heads = layout.num_heads,
                                   .head_stride = layout.head_stride,
                                   .rope_dim = dim,
                                   .row_stride = x.row_stride(),
                                   .sequence_length = layout.sequence_length,
                                   .start_position = layout.start_position,
                                   .table = table.cos_sin.data<float>(),
                                   .sin_sign = direction == RopeDirection::forward ? 1.0f : -1.0f};
    ctx.pool().parallel_for(rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
      if (x.dtype() == DType::f32)
        STRAIT_CPU_KERNEL(rope_f32)(x.data<float>() + layout.offset, args, begin, end);
      else
        STRAIT_CPU_KERNEL(rope_bf16)
      (reinterpret_cast<unsigned short*>(x.data<bfloat16>() + layout.offset), args, begin, end);
    });
  });
}

}  // namespace strait
