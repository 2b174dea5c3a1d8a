// latent_attention against the sum it stands for, in FP64.
#include "core/ops/latent_attention.h"

#include "tests/core/op_test.h"

namespace strait {
namespace {

using test::Numbers;
using test::random_numbers;
using test::tensor_of;

struct Case {
  int64_t heads, tokens, latent, rope, first;
  DType q = DType::f32, cache = DType::f32;
};

struct Operands {
  Case c;
  int64_t nope = 3;
  Numbers q_latent, q, cache;

  explicit Operands(const Case& size) : c(size) {
    q_latent = random_numbers(c.heads * c.tokens * c.latent, 1);
    q = random_numbers(c.tokens * c.heads * (nope + c.rope), 2, 1, c.q);
    cache = random_numbers((c.first + c.tokens) * (c.latent + c.rope), 3, 1, c.cache);
  }
  LatentAttentionShape shape() const {
    return {.num_heads = c.heads,
            .latent_dim = c.latent,
            .rope_dim = c.rope,
            .head_stride = nope + c.rope,
            .rope_offset = nope,
            .first_position = c.first,
            .softmax_scale = 0.2f};
  }
  // The tokens [begin, end) of the case.
  Numbers run(int threads, int64_t begin, int64_t end) const {
    Context ctx(Device::cpu, threads);
    const int64_t width = c.latent + c.rope, count = end - begin;
    Numbers some_latent;
    for (int64_t h = 0; h < c.heads; ++h) {
      const auto from = q_latent.begin() + (h * c.tokens + begin) * c.latent;
      some_latent.insert(some_latent.end(), from, from + count * c.latent);
    }
    const Tensor queries = tensor_of(ctx, {c.tokens, c.heads * (nope + c.rope)}, c.q, q);
    const Tensor rows = test::view_of(ctx, c.first + c.tokens, width, c.cache, cache);
    Tensor out = tensor_of(ctx, {c.heads, count, c.latent}, DType::f32,
                           Numbers(static_cast<size_t>(c.heads * count * c.latent), NAN));
    LatentAttentionShape moved = shape();
    moved.first_position += begin;
    latent_attention(ctx, moved,
                     tensor_of(ctx, {c.heads, count, c.latent}, DType::f32, some_latent),
                     queries.slice_rows(begin, count), rows, out);
    return test::read(out);
  }
  Numbers expected() const {
    Numbers out;
    const auto at = [](const Numbers& numbers, int64_t index) {
      return numbers[static_cast<size_t>(index)];
    };
    const int64_t width = c.latent + c.rope, head_stride = nope + c.rope;
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t t = 0; t < c.tokens; ++t) {
        Numbers p;
        double total = 0;
        for (int64_t j = 0; j <= c.first + t; ++j) {
          double score = 0;
          for (int64_t i = 0; i < c.latent; ++i)
            score += at(q_latent, (h * c.tokens + t) * c.latent + i) * at(cache, j * width + i);
          for (int64_t i = 0; i < c.rope; ++i)
            score += at(q, (t * c.heads + h) * head_stride + nope + i) *
                     at(cache, j * width + c.latent + i);
          p.push_back(std::exp(score * static_cast<double>(0.2f)));
          total += p.back();
        }
        for (int64_t i = 0; i < c.latent; ++i) {
          double sum = 0;
          for (int64_t j = 0; j <= c.first + t; ++j) sum += at(p, j) * at(cache, j * width + i);
          out.push_back(sum / total);
        }
      }
    return out;
  }
};

const std::vector<Case> kCases = {
    {1, 1, 16, 8, 0},
    {4, 3, 32, 16, 61},  // over the edge of a block
    {5, 2, 18, 6, 130},  // sizes that fill no vector
    {7, 9, 20, 0, 0},
    {2, 70, 40, 12, 5},
    {3, 4, 24, 8, 100, DType::bf16, DType::bf16},
    {3, 4, 24, 8, 100, DType::f32, DType::bf16},
};

TEST(LatentAttention, EqualsTheSum) {
  for (const Case& c : kCases) {
    const Operands x(c);
    test::expect_near(x.run(2, 0, c.tokens), x.expected(), 2e-5, "latent_attention");
  }
}

TEST(LatentAttention, ATokenDoesNotDependOnTheOthersOrTheThreads) {
  for (const Case& c : kCases) {
    const Operands x(c);
    const Numbers all = x.run(1, 0, c.tokens);
    test::expect_same_bits(x.run(3, 0, c.tokens), all, "three threads");
    for (int64_t t = 0; t < c.tokens; t += 4) {
      const Numbers one = x.run(2, t, t + 1);
      for (int64_t h = 0; h < c.heads; ++h)
        for (int64_t i = 0; i < c.latent; ++i)
          ASSERT_EQ(one[static_cast<size_t>(h * c.latent + i)],
                    all[static_cast<size_t>((h * c.tokens + t) * c.latent + i)]);
    }
  }
}

TEST(LatentAttention, ChecksItsOperands) {
  const Operands x({2, 3, 16, 8, 4});
  Context ctx(Device::cpu, 1);
  const auto f32 = [&](Shape shape) { return ctx.zeros(shape, DType::f32, Purpose::activations); };
  Tensor out = f32({2, 3, 16});
  EXPECT_NO_THROW(
      latent_attention(ctx, x.shape(), f32({2, 3, 16}), f32({3, 22}), f32({7, 24}), out));
  EXPECT_THROW(latent_attention(ctx, x.shape(), f32({2, 3, 16}), f32({3, 22}), f32({6, 24}), out),
               InternalError);
  EXPECT_THROW(latent_attention(ctx, x.shape(), f32({2, 3, 16}), f32({3, 21}), f32({7, 24}), out),
               InternalError);
  EXPECT_THROW(latent_attention(ctx, x.shape(), f32({2, 2, 16}), f32({3, 22}), f32({7, 24}), out),
               InternalError);
}

TEST(LatentAttention, OnMetaCountsOnly) {
  Context ctx(Device::meta, 1);
  const Operands x({2, 3, 16, 8, 4});
  const auto f32 = [&](Shape shape) { return ctx.empty(shape, DType::f32, Purpose::activations); };
  Tensor out = f32({2, 3, 16});
  latent_attention(ctx, x.shape(), f32({2, 3, 16}), f32({3, 22}), f32({7, 24}), out);
  EXPECT_EQ(ctx.spent().flops, 2.0 * 2 * (5 + 6 + 7) * (16 + 8 + 16));
}

}  // namespace
}  // namespace strait
