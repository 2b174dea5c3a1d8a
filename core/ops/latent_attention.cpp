#include "core/ops/latent_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/latent_attention.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

constexpr const char* kOp = "latent_attention";

int64_t parts(int64_t count, int64_t most) { return (count + most - 1) / most; }

void check(const LatentAttentionShape& s, const Tensor& q_latent, const Tensor& q,
           const Tensor& cache, const Tensor& out) {
  const int64_t tokens = q.rows();
  if (s.num_heads < 1 || s.latent_dim < 1 || s.rope_dim < 0 || s.first_position < 0 ||
      !(s.softmax_scale > 0))
    throw_operand(
        kOp,
        fmt::format("heads {}, latent_dim {}, rope_dim {}, first_position {}, softmax_scale {}",
                    s.num_heads, s.latent_dim, s.rope_dim, s.first_position, s.softmax_scale));
  if (s.rope_offset < 0 ||
      (s.num_heads - 1) * s.head_stride + s.rope_offset + s.rope_dim > q.cols())
    throw_operand(
        kOp, fmt::format("q: {} heads of stride {} with {} columns from {} do not fit in {}",
                         s.num_heads, s.head_stride, s.rope_dim, s.rope_offset, q.shape().str()));
  if (s.first_position + tokens > cache.rows())
    throw_operand(kOp, fmt::format("cache: positions to {} do not fit in {}",
                                   s.first_position + tokens - 1, cache.shape().str()));
  check_matrix(kOp, "q", q, kAnySize, kAnySize, kActivationTypes);
  check_flat(kOp, "q_latent", q_latent, s.num_heads * tokens * s.latent_dim, {DType::f32});
  check_matrix(kOp, "cache", cache, kAnySize, s.latent_dim + s.rope_dim, kActivationTypes);
  check_flat(kOp, "out", out, q_latent.numel(), {DType::f32});
}

}  // namespace

void latent_attention(Context& ctx, const LatentAttentionShape& shape, const Tensor& q_latent_NTC,
                      const Tensor& q, const Tensor& cache_PD, Tensor& out_NTC) {
  check(shape, q_latent_NTC, q, cache_PD, out_NTC);
  const int64_t tokens = q.rows(), groups = parts(shape.num_heads, cpu::kLatentHeads);
  const int64_t width = shape.latent_dim + shape.rope_dim;
  const auto t = static_cast<double>(tokens);
  const double pairs = t * static_cast<double>(shape.first_position) + t * (t + 1) / 2;
  const Cost cost{
      .flops = 2 * pairs * static_cast<double>(shape.num_heads * (width + shape.latent_dim)),
      .bytes = static_cast<double>(q_latent_NTC.bytes() + out_NTC.bytes() + q.bytes()) +
               static_cast<double>((shape.first_position + tokens) * width) *
                   static_cast<double>(size_of(cache_PD.dtype())),
      .op_class = OpClass::attention,
      .operands = cache_PD.dtype()};
  const int64_t scratch_floats = cpu::latent_attention_scratch(shape.latent_dim, shape.rope_dim);
  const Tensor scratch =  // one row per thread
      ctx.empty({ctx.pool().num_threads(), scratch_floats}, DType::f32, Purpose::workspace);
  ctx.run(cost, [&] {
    const cpu::LatentAttentionArgs args{.q_latent = q_latent_NTC.data<float>(),
                                        .out = out_NTC.data<float>(),
                                        .q = cpu::rows_of(q),
                                        .cache = cpu::rows_of(cache_PD),
                                        .num_tokens = tokens,
                                        .latent_dim = shape.latent_dim,
                                        .rope_dim = shape.rope_dim,
                                        .head_stride = shape.head_stride,
                                        .rope_offset = shape.rope_offset,
                                        .first_position = shape.first_position,
                                        .softmax_scale = shape.softmax_scale};
    const auto kernel = STRAIT_CPU_KERNEL(latent_attention);
    std::atomic<int64_t> next{tokens * groups};  // later tokens, which see more positions, first
    ctx.pool().parallel_for(
        std::min(scratch.rows(), tokens * groups), 1, [&](int64_t slot, int64_t) {
          for (int64_t i = --next; i >= 0; i = --next) {
            const int64_t token = i / groups, head = i % groups * cpu::kLatentHeads;
            kernel(args, token, head, std::min<int64_t>(cpu::kLatentHeads, shape.num_heads - head),
                   scratch.data<float>() + slot * scratch_floats);
          }
        });
  });
}

}  // namespace strait
