#include "core/ops/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/attention_backward.h"
#include "core/ops/cpu/kernels/attention_forward.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

void check_operand(const char* name, const Tensor& x, int64_t rows, int64_t cols, DType dtype) {
  STRAIT_CHECK(
      x.defined() && x.rows() == rows && x.cols() == cols && x.dtype() == dtype,
      fmt::format("[attention] {}: expected {} [{}, {}], got {} {}", name, name_of(dtype), rows,
                  cols, x.defined() ? name_of(x.dtype()) : "undefined", x.shape().str()));
}

void check(const AttentionShape& s, const AttentionSaved& x) {
  STRAIT_CHECK(
      s.num_sequences >= 0 && s.sequence_length >= 0 && s.num_heads >= 1 && s.qk_nope_dim >= 0 &&
          s.qk_rope_dim >= 0 && s.qk_dim() >= 1 && s.v_dim >= 1 && s.softmax_scale > 0,
      fmt::format(
          "[attention] expected sizes, got B {}, S {}, N {}, nope {}, rope {}, v {}, scale {}",
          s.num_sequences, s.sequence_length, s.num_heads, s.qk_nope_dim, s.qk_rope_dim, s.v_dim,
          s.softmax_scale));
  const DType dtype = x.q.dtype();
  STRAIT_CHECK(dtype == DType::f32 || dtype == DType::bf16,
               fmt::format("[attention] q: expected f32 or bf16, got {}", name_of(dtype)));
  const int64_t tokens = s.num_tokens(), heads = s.num_heads;
  check_operand("q", x.q, tokens, heads * s.qk_dim(), dtype);
  check_operand("kv", x.kv, tokens, heads * (s.qk_nope_dim + s.v_dim), dtype);
  check_operand("k_rope", x.k_rope, tokens, s.qk_rope_dim, dtype);
  check_operand("o", x.o, tokens, heads * s.v_dim, dtype);
  check_operand("lse", x.lse, tokens, heads, DType::f32);
}

// A query and a key that it sees, of every head.
double visible_pairs(const AttentionShape& s) {
  const double length = static_cast<double>(s.sequence_length);
  return static_cast<double>(s.num_sequences * s.num_heads) * length * (length + 1) / 2;
}
double forward_flops(const AttentionShape& s) {
  return visible_pairs(s) * 2 * static_cast<double>(s.qk_dim() + s.v_dim);
}

double tensor_bytes(std::initializer_list<const Tensor*> tensors) {
  int64_t bytes = 0;
  for (const Tensor* tensor : tensors) bytes += tensor->bytes();
  return static_cast<double>(bytes);
}

// The sizes only; kernel_args() adds the operands.
cpu::AttentionKernelArgs kernel_sizes(const AttentionShape& s) {
  return {.sequence_length = s.sequence_length,
          .num_heads = s.num_heads,
          .qk_nope_dim = s.qk_nope_dim,
          .qk_rope_dim = s.qk_rope_dim,
          .v_dim = s.v_dim,
          .softmax_scale = s.softmax_scale,
          .q = {},
          .kv = {},
          .k_rope = {},
          .o = {},
          .lse = {}};
}

cpu::AttentionKernelArgs kernel_args(const AttentionShape& s, const AttentionSaved& x) {
  cpu::AttentionKernelArgs args = kernel_sizes(s);
  args.q = cpu::rows_of(x.q);
  args.kv = cpu::rows_of(x.kv);
  args.k_rope = cpu::rows_of(x.k_rope);
  args.o = cpu::rows_of(x.o);
  args.lse = cpu::rows_of(x.lse);
  return args;
}

// Numbers in a word of the kernels.
int64_t word_step(DType dtype) {
  return dtype == DType::bf16 && cpu::isa() >= cpu::Isa::avx512 ? 2 : 1;
}

// One piece of scratch per thread, whichever items that thread runs.
class Scratch {
 public:
  Scratch(Context& ctx, int64_t words) : slots_(ctx.pool().num_threads()) {
    words_ = ctx.empty({slots_, words}, DType::f32, Purpose::workspace);
  }
  // Calls item(index, scratch) for every index below `count`, in any order and in parallel.
  template <class Item>
  void for_each(ThreadPool& pool, int64_t count, const Item& item) const {
    std::atomic<int64_t> next = 0;
    float* words = words_.data<float>();
    pool.parallel_for(slots_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t slot = begin; slot < end; ++slot)
        for (int64_t i = next++; i < count; i = next++) item(i, words + slot * words_.cols());
    });
  }

 private:
  int64_t slots_;
  Tensor words_;
};

// Heads whose packed keys are held at a time: a head per thread, more when sequences are short.
int64_t heads_at_once(Context& ctx, const AttentionShape& s) {
  const int64_t threads = ctx.pool().num_threads(), all = s.num_sequences * s.num_heads;
  constexpr int64_t kTokensPerThread = 1024;
  return std::min(all, std::max(threads, threads * kTokensPerThread / s.sequence_length));
}

void run_forward(Context& ctx, const AttentionShape& s, const AttentionSaved& x,
                 const Tensor& packed, const Scratch& scratch) {
  const cpu::AttentionKernelArgs args = kernel_args(s, x);
  const bool bf16 = x.q.dtype() == DType::bf16;
  const int64_t key_blocks = cpu::attention_blocks(s.sequence_length, cpu::kAttentionForwardKeys);
  const int64_t query_blocks = cpu::attention_blocks(s.sequence_length, cpu::kAttentionQueries);
  const int64_t block_words = packed.cols() / key_blocks, items = s.num_sequences * s.num_heads;
  float* keys = packed.data<float>();
  for (int64_t first = 0; first < items; first += packed.rows()) {
    const int64_t heads = std::min(packed.rows(), items - first);
    scratch.for_each(ctx.pool(), heads * key_blocks, [&](int64_t i, float* own) {
      const int64_t item = first + i / key_blocks, sequence = item / s.num_heads,
                    head = item % s.num_heads;
      float* block = keys + i * block_words;
      if (bf16)
        STRAIT_CPU_KERNEL(attention_pack_bf16)(args, sequence, head, i % key_blocks, block, own);
      else
        STRAIT_CPU_KERNEL(attention_pack_f32)(args, sequence, head, i % key_blocks, block, own);
    });
    scratch.for_each(ctx.pool(), heads * query_blocks, [&](int64_t i, float* own) {
      const int64_t item = first + i / query_blocks, sequence = item / s.num_heads,
                    head = item % s.num_heads;
      const int64_t block = query_blocks - 1 - i % query_blocks;  // the longest first
      const float* blocks = keys + i / query_blocks * packed.cols();
      if (bf16)
        STRAIT_CPU_KERNEL(attention_forward_bf16)(args, sequence, head, block, blocks, own);
      else
        STRAIT_CPU_KERNEL(attention_forward_f32)(args, sequence, head, block, blocks, own);
    });
  }
}

// Heads whose parts of d_k_rope are held at a time.
int64_t backward_heads_at_once(Context& ctx, const AttentionShape& s) {
  return std::min<int64_t>(s.num_sequences * s.num_heads, 8 * ctx.pool().num_threads());
}

// Adds the parts of items [first, first + count) to the sums, in head order, and writes the
// sequences that are done.
void sum_rope_parts(Context& ctx, const AttentionShape& s, int64_t first, int64_t count,
                    const Tensor& parts, const Tensor& sums, const Tensor& d_k_rope) {
  const int64_t length = s.sequence_length, rope = s.qk_rope_dim;
  const int64_t first_sequence = first / s.num_heads,
                last_sequence = (first + count - 1) / s.num_heads;
  const auto sum_row = [&](int64_t row) {
    const int64_t sequence = row / length, position = row % length;
    const int64_t begin = std::max(first, sequence * s.num_heads);
    const int64_t end = std::min(first + count, (sequence + 1) * s.num_heads);
    float* sum = sums.data<float>() + row * rope;
    if (begin == sequence * s.num_heads) std::fill_n(sum, rope, 0.0f);
    for (int64_t item = begin; item < end; ++item) {
      const float* part = parts.data<float>() + (item - first) * length * rope + position * rope;
      for (int64_t d = 0; d < rope; ++d) sum[d] += part[d];
    }
    if (end < (sequence + 1) * s.num_heads) return;
    const int64_t at = row * d_k_rope.row_stride();
    if (d_k_rope.dtype() == DType::f32)
      std::copy_n(sum, rope, d_k_rope.data<float>() + at);
    else
      std::transform(sum, sum + rope, d_k_rope.data<bfloat16>() + at, to_bfloat16);
  };
  const int64_t first_row = first_sequence * length;
  ctx.pool().parallel_for((last_sequence + 1) * length - first_row, 64,
                          [&](int64_t begin, int64_t end) {
                            for (int64_t row = begin; row < end; ++row) sum_row(first_row + row);
                          });
}

void run_backward(Context& ctx, const AttentionShape& s, const cpu::AttentionBackwardArgs& args,
                  const Tensor& d_k_rope, const Tensor& parts, const Tensor& sums,
                  const Scratch& scratch) {
  const int64_t items = s.num_sequences * s.num_heads, at_once = parts.rows();
  for (int64_t first = 0; first < items; first += at_once) {
    const int64_t count = std::min(at_once, items - first);
    scratch.for_each(ctx.pool(), count, [&](int64_t i, float* own) {
      const int64_t sequence = (first + i) / s.num_heads, head = (first + i) % s.num_heads;
      float* part = s.qk_rope_dim > 0 ? parts.data<float>() + i * parts.cols() : nullptr;
      if (args.forward.q.bf16)
        STRAIT_CPU_KERNEL(attention_backward_bf16)(args, sequence, head, part, own);
      else
        STRAIT_CPU_KERNEL(attention_backward_f32)(args, sequence, head, part, own);
    });
    if (s.qk_rope_dim > 0) sum_rope_parts(ctx, s, first, count, parts, sums, d_k_rope);
  }
}

}  // namespace

void attention(Context& ctx, const AttentionShape& shape, const Tensor& q, const Tensor& kv,
               const Tensor& k_rope, const Tensor& o, const Tensor& lse) {
  const AttentionSaved x{q, kv, k_rope, o, lse};
  check(shape, x);
  const Cost cost{.flops = forward_flops(shape),
                  .bytes = tensor_bytes({&q, &kv, &k_rope, &o, &lse}),
                  .op_class = OpClass::attention,
                  .operands = q.dtype()};
  if (shape.num_tokens() == 0) return;
  const cpu::AttentionKernelArgs sizes = kernel_sizes(shape);
  const int64_t step = word_step(q.dtype());
  const int64_t head_words =
      cpu::attention_blocks(shape.sequence_length, cpu::kAttentionForwardKeys) *
      cpu::attention_forward_block_words(sizes, step);
  const Tensor packed =
      ctx.empty({heads_at_once(ctx, shape), head_words}, DType::f32, Purpose::workspace);
  const Scratch scratch(ctx, cpu::attention_forward_scratch_words(sizes, step));
  ctx.run(cost, [&] { run_forward(ctx, shape, x, packed, scratch); });
}

void attention_backward(Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                        const Tensor& d_o, const AttentionGradients& gradients) {
  check(shape, saved);
  const DType dtype = saved.q.dtype();
  check_operand("d_o", d_o, saved.o.rows(), saved.o.cols(), dtype);
  check_operand("d_q", gradients.d_q, saved.q.rows(), saved.q.cols(), dtype);
  check_operand("d_kv", gradients.d_kv, saved.kv.rows(), saved.kv.cols(), dtype);
  check_operand("d_k_rope", gradients.d_k_rope, saved.k_rope.rows(), saved.k_rope.cols(), dtype);
  const Cost cost{.flops = 2 * forward_flops(shape),
                  .bytes = 2 * tensor_bytes({&saved.q, &saved.kv, &saved.k_rope, &saved.o}) +
                           tensor_bytes({&saved.lse}),
                  .op_class = OpClass::attention,
                  .operands = dtype,
                  .again_flops = visible_pairs(shape) * 2 * static_cast<double>(shape.qk_dim())};
  if (shape.num_tokens() == 0) return;
  const int64_t rope_words = shape.sequence_length * shape.qk_rope_dim;
  const Tensor parts =
      ctx.empty({backward_heads_at_once(ctx, shape), rope_words}, DType::f32, Purpose::workspace);
  const Tensor sums = ctx.empty({shape.num_sequences, rope_words}, DType::f32, Purpose::workspace);
  const Scratch scratch(
      ctx, cpu::attention_backward_scratch_words(kernel_sizes(shape), word_step(dtype)));
  ctx.run(cost, [&] {
    const cpu::AttentionBackwardArgs args{.forward = kernel_args(shape, saved),
                                          .d_o = cpu::rows_of(d_o),
                                          .d_q = cpu::rows_of(gradients.d_q),
                                          .d_kv = cpu::rows_of(gradients.d_kv)};
    run_backward(ctx, shape, args, gradients.d_k_rope, parts, sums, scratch);
  });
}

}  // namespace strait
