#include "core/autograd/functions.h"

#include "function_check.h"
#include "router_reference.h"

namespace strait {
namespace {

using test::FunctionCheck;
using test::Numbers;
using Vars = std::vector<Var>;
using Parameters = std::vector<Parameter>;
using Many = std::vector<Numbers>;

size_t index(int64_t i) { return static_cast<size_t>(i); }

// y [T, out] = x [T, in] w [out, in]^T.
Numbers product(const Numbers& x, const Numbers& w, int64_t in, int64_t out) {
  const int64_t rows = static_cast<int64_t>(x.size()) / in;
  Numbers y(index(rows * out));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i)
        y[index(r * out + o)] += x[index(r * in + i)] * w[index(o * in + i)];
  return y;
}

struct Size {
  int64_t rows, in, out;
  DType dtype;
};
class Functions : public ::testing::TestWithParam<Size> {
 protected:
  const int64_t rows_ = GetParam().rows, in_ = GetParam().in, out_ = GetParam().out;
  const DType dtype_ = GetParam().dtype;
  // Of a result that is rounded once to the dtype, from FP32 sums.
  const double tolerance_ = dtype_ == DType::bf16 ? test::unit(DType::bf16) : 2e-6;
};

TEST_P(Functions, Linear) {
  for (DType out : {dtype_, DType::f32}) {
    for (bool recompute : {false, true}) {
      FunctionCheck()
          .input({rows_, in_}, dtype_)
          .weight({out_, in_}, dtype_, Role::linear)
          .tolerance(tolerance_)
          .by_rows()
          .run([&](Segment& s, const Vars& x,
                   Parameters& w) { return linear_recomputed(s, x[0], w[0], out, recompute); },
               [&](const Many& x, const Many& w) { return product(x[0], w[0], in_, out_); });
    }
  }
}

TEST_P(Functions, LinearAdd) {
  FunctionCheck()
      .input({rows_, in_}, dtype_)
      .input({rows_, out_}, DType::f32)
      .weight({out_, in_}, dtype_, Role::linear)
      .tolerance(tolerance_)
      .by_rows()
      .run(
          [&](Segment& s, const Vars& x, Parameters& w) { return linear_add(s, x[0], w[0], x[1]); },
          [&](const Many& x, const Many& w) {
            Numbers y = product(x[0], w[0], in_, out_);
            for (size_t i = 0; i < y.size(); ++i) y[i] += x[1][i];
            return y;
          });
}

// FP32 accuracy whatever the activations are: the router's logits decide about experts.
TEST_P(Functions, LinearFp32) {
  FunctionCheck()
      .input({rows_, in_}, dtype_)
      .weight({out_, in_}, DType::f32, Role::linear)
      .by_rows()
      .run([&](Segment& s, const Vars& x,
               Parameters& w) { return linear(s, x[0], w[0], DType::f32); },
           [&](const Many& x, const Many& w) { return product(x[0], w[0], in_, out_); });
}

TEST_P(Functions, RmsNorm) {
  const double eps = 0.05;
  FunctionCheck()
      .input({rows_, in_}, dtype_)
      .weight({in_}, DType::f32, Role::norm)
      .tolerance(tolerance_)
      .by_rows()
      .run([&](Segment& s, const Vars& x,
               Parameters& w) { return rms_norm(s, x[0], w[0], eps, dtype_); },
           [&](const Many& x, const Many& w) {
             Numbers y = x[0];
             for (int64_t r = 0; r < rows_; ++r) {
               double squares = 0;
               for (int64_t c = 0; c < in_; ++c) squares += std::pow(y[index(r * in_ + c)], 2);
               const double inverse = 1 / std::sqrt(squares / static_cast<double>(in_) + eps);
               for (int64_t c = 0; c < in_; ++c) y[index(r * in_ + c)] *= inverse * w[0][index(c)];
             }
             return y;
           });
}

// Both at once: the parts of x change places.
TEST_P(Functions, SplitAndConcatColumns) {
  const int64_t first = in_ / 3;
  FunctionCheck()
      .input({rows_, in_}, dtype_)
      .tolerance(tolerance_)
      .by_rows()
      .run(
          [&](Segment& s, const Vars& x, Parameters&) {
            const auto [a, b] = split_columns(s, x[0], first);
            return concat_columns(s, b, a);
          },
          [&](const Many& x, const Many&) {
            Numbers y;
            for (int64_t r = 0; r < rows_; ++r)
              for (int64_t c = 0; c < in_; ++c)
                y.push_back(x[0][index(r * in_ + (c + first) % in_)]);
            return y;
          });
}

TEST_P(Functions, Swiglu) {
  for (bool weighted : {false, true}) {
    FunctionCheck check;
    check.input({rows_, 2 * in_}, dtype_);
    if (weighted) check.input({rows_}, DType::f32);
    check.tolerance(tolerance_)
        .by_rows()
        .run([&](Segment& s, const Vars& x,
                 Parameters&) { return swiglu(s, x[0], weighted ? &x[1] : nullptr); },
             [&](const Many& x, const Many&) {
               Numbers h;
               for (int64_t r = 0; r < rows_; ++r) {
                 for (int64_t c = 0; c < in_; ++c) {
                   const double gate = x[0][index(r * 2 * in_ + c)],
                                up = x[0][index(r * 2 * in_ + in_ + c)];
                   h.push_back(gate / (1 + std::exp(-gate)) * up * (weighted ? x[1][index(r)] : 1));
                 }
               }
               return h;
             });
  }
}

// A value that several functions read gets the sum of their gradients.
TEST_P(Functions, GradientsOfAllReadersAdd) {
  FunctionCheck()
      .input({rows_, in_}, dtype_)
      .weight({out_, in_}, dtype_, Role::linear)
      .weight({out_, in_}, dtype_, Role::linear)
      .tolerance(2 * tolerance_)
      .by_rows()
      .run(
          [&](Segment& s, const Vars& x, Parameters& w) {
            const Var h = linear(s, x[0], w[0], DType::f32);
            const Var g = linear_add(s, x[0], w[1], h);
            return linear_add(s, x[0], w[0], g);
          },
          [&](const Many& x, const Many& w) {
            Numbers y = product(x[0], w[0], in_, out_);
            const Numbers z = product(x[0], w[1], in_, out_);
            for (size_t i = 0; i < y.size(); ++i) y[i] = 2 * y[i] + z[i];
            return y;
          });
}

INSTANTIATE_TEST_SUITE_P(Sizes, Functions,
                         ::testing::Values(Size{0, 4, 3, DType::f32}, Size{1, 1, 1, DType::f32},
                                           Size{5, 7, 3, DType::f32}, Size{9, 33, 17, DType::bf16},
                                           Size{150, 64, 40, DType::f32},
                                           Size{150, 64, 40, DType::bf16}),
                         [](const auto& info) {
                           const Size& s = info.param;
                           return std::to_string(s.rows) + "x" + std::to_string(s.in) + "x" +
                                  std::to_string(s.out) + "_" + name_of(s.dtype);
                         });

class Types : public ::testing::TestWithParam<DType> {
 protected:
  const DType dtype_ = GetParam();
  const double tolerance_ = dtype_ == DType::bf16 ? test::unit(DType::bf16) : 2e-6;
};

TEST_P(Types, RopeInPlace) {
  const int64_t sequences = 2, length = 3, heads = 2, stride = 7, dim = 4, cols = heads * stride;
  const RopeLayout layout{
      .num_heads = heads, .head_stride = stride, .offset = 2, .sequence_length = length};
  Context ctx(Device::cpu, 1);
  const RopeTableSettings settings{.theta = 100, .rope_dim = dim, .max_positions = length};
  const auto table = std::make_shared<const RopeTable>(make_rope_table(ctx, settings));
  FunctionCheck()
      .input({sequences * length, cols}, dtype_)
      .weight({cols, cols}, dtype_, Role::linear)
      .tolerance(2 * tolerance_)
      .run(
          // Of a linear layer that is recomputed, as in the model, so that it comes back unrotated.
          [&](Segment& s, const Vars& x, Parameters& w) {
            return rope_in_place(s, linear_recomputed(s, x[0], w[0], dtype_, s.recompute().mla_up),
                                 layout, table);
          },
          [&](const Many& x, const Many& w) {
            Numbers y = product(x[0], w[0], cols, cols);
            for (int64_t row = 0; row < sequences * length; ++row) {
              for (int64_t pair = 0; pair < heads * dim / 2; ++pair) {
                const int64_t i = pair % (dim / 2);
                const double angle = static_cast<double>(row % length) *
                                     std::pow(100.0, -2.0 * static_cast<double>(i) / dim);
                double* at =
                    &y[index(row * cols + pair / (dim / 2) * stride + layout.offset + 2 * i)];
                const double a = at[0], b = at[1];
                at[0] = a * std::cos(angle) - b * std::sin(angle);
                at[1] = a * std::sin(angle) + b * std::cos(angle);
              }
            }
            return y;
          });
}

// Causal attention with the whole matrix of scores.
Numbers attention_definition(const AttentionShape& s, const Numbers& q, const Numbers& kv,
                             const Numbers& k_rope) {
  const int64_t nope = s.qk_nope_dim, qk = s.qk_dim(), kv_dim = nope + s.v_dim;
  Numbers o(index(s.num_tokens() * s.num_heads * s.v_dim));
  for (int64_t t = 0; t < s.num_tokens(); ++t) {
    for (int64_t head = 0; head < s.num_heads; ++head) {
      Numbers p;
      double sum = 0;
      const int64_t first = t / s.sequence_length * s.sequence_length;
      for (int64_t u = first; u <= t; ++u) {
        double score = 0;
        for (int64_t d = 0; d < qk; ++d)
          score += q[index((t * s.num_heads + head) * qk + d)] *
                   (d < nope ? kv[index((u * s.num_heads + head) * kv_dim + d)]
                             : k_rope[index(u * s.qk_rope_dim + d - nope)]);
        p.push_back(std::exp(score * static_cast<double>(s.softmax_scale)));
        sum += p.back();
      }
      for (int64_t u = first; u <= t; ++u)
        for (int64_t d = 0; d < s.v_dim; ++d)
          o[index((t * s.num_heads + head) * s.v_dim + d)] +=
              p[index(u - first)] / sum * kv[index((u * s.num_heads + head) * kv_dim + nope + d)];
    }
  }
  return o;
}

TEST_P(Types, Attention) {
  const AttentionShape shape{.num_sequences = 2,
                             .sequence_length = 5,
                             .num_heads = 2,
                             .qk_nope_dim = 4,
                             .qk_rope_dim = 2,
                             .v_dim = 3,
                             .softmax_scale = 0.4f};
  FunctionCheck()
      .input({shape.num_tokens(), shape.num_heads * shape.qk_dim()}, dtype_)
      .input({shape.num_tokens(), shape.num_heads * (shape.qk_nope_dim + shape.v_dim)}, dtype_)
      .input({shape.num_tokens(), shape.qk_rope_dim}, dtype_)
      .tolerance(2 * tolerance_)
      .run([&](Segment& s, const Vars& x,
               Parameters&) { return attention(s, shape, x[0], x[1], x[2]); },
           [&](const Many& x, const Many&) {
             return attention_definition(shape, x[0], x[1], x[2]);
           });
}

TEST_P(Types, GroupedLinear) {
  const int64_t experts = 4, in = 19, out = 6;
  for (const std::vector<int64_t>& ends :
       {std::vector<int64_t>{0, 3, 3, 8, 21}, {0, 0, 0, 0, 0}, {0, 0, 70, 70, 71}}) {
    const auto offsets = std::make_shared<const std::vector<int64_t>>(ends);
    FunctionCheck()
        .input({ends.back(), in}, dtype_)
        .weight({experts, out, in}, dtype_, Role::expert_stack)
        .tolerance(tolerance_)
        .run([&](Segment& s, const Vars& x,
                 Parameters& w) { return grouped_linear(s, x[0], w[0], offsets, dtype_); },
             [&](const Many& x, const Many& w) {
               Numbers y;
               for (int64_t e = 0; e < experts; ++e) {
                 const Numbers rows(x[0].begin() + ends[index(e)] * in,
                                    x[0].begin() + ends[index(e + 1)] * in);
                 const Numbers weight(w[0].begin() + e * out * in,
                                      w[0].begin() + (e + 1) * out * in);
                 const Numbers part = product(rows, weight, in, out);
                 y.insert(y.end(), part.begin(), part.end());
               }
               return y;
             });
  }
}

// Pairs of (row, expert) for 5 rows: the third has none, the last has all of the experts 2 to 5.
PairMapPtr pair_map(Context& ctx) {
  const std::vector<std::vector<int>> experts_of_row = {{2}, {3, 5}, {}, {2, 4, 5}, {2, 3, 4, 5}};
  Numbers row_of_pair, offsets{0}, experts, pairs;
  std::vector<Numbers> pair_of(experts_of_row.size());
  for (int expert = 2; expert < 6; ++expert) {
    for (size_t row = 0; row < experts_of_row.size(); ++row) {
      for (int e : experts_of_row[row]) {
        if (e != expert) continue;
        pair_of[row].push_back(static_cast<double>(row_of_pair.size()));
        row_of_pair.push_back(static_cast<double>(row));
      }
    }
  }
  for (size_t row = 0; row < experts_of_row.size(); ++row) {
    experts.insert(experts.end(), experts_of_row[row].begin(), experts_of_row[row].end());
    pairs.insert(pairs.end(), pair_of[row].begin(), pair_of[row].end());
    offsets.push_back(static_cast<double>(experts.size()));
  }
  const auto make = [&](const Numbers& numbers) {
    return test::tensor_of(ctx, {static_cast<int64_t>(numbers.size())}, DType::i32, numbers);
  };
  return std::make_shared<const PairMap>(
      PairMap{make(row_of_pair), {make(offsets), make(experts), make(pairs)}, {2, 6}});
}

TEST_P(Types, GatherAndSumPairs) {
  Context ctx(Device::cpu, 1);
  const PairMapPtr pairs = pair_map(ctx);
  const Numbers row_of_pair = test::read(pairs->row_of_pair);
  const int64_t rows = 5, cols = 70;
  const auto gathered = [&](const Numbers& x) {
    Numbers y;
    for (double row : row_of_pair)
      y.insert(y.end(), x.begin() + static_cast<int64_t>(row) * cols,
               x.begin() + (static_cast<int64_t>(row) + 1) * cols);
    return y;
  };
  FunctionCheck()
      .input({rows, cols}, dtype_)
      .tolerance(tolerance_)
      .run([&](Segment& s, const Vars& x, Parameters&) { return gather_pairs(s, x[0], pairs); },
           [&](const Many& x, const Many&) { return gathered(x[0]); });
  FunctionCheck()
      .input({pairs->row_of_pair.numel(), cols}, dtype_)
      .tolerance(tolerance_)
      .run(
          [&](Segment& s, const Vars& x, Parameters&) { return sum_pairs(s, x[0], pairs, dtype_); },
          [&](const Many& x, const Many&) {
            Numbers y(index(rows * cols));
            for (size_t p = 0; p < row_of_pair.size(); ++p)
              for (int64_t c = 0; c < cols; ++c)
                y[index(static_cast<int64_t>(row_of_pair[p]) * cols + c)] +=
                    x[0][p * index(cols) + index(c)];
            return y;
          });
}

TEST_P(Types, Embedding) {
  const int64_t vocabulary = 7, cols = 5;
  const Numbers ids{3, 0, 3, 6, 3};
  FunctionCheck()
      .weight({vocabulary, cols}, dtype_, Role::embedding)
      .run(
          [&](Segment& s, const Vars&, Parameters& w) {
            return embedding(s, test::tensor_of(s.ctx(), {5}, DType::i32, ids), w[0]);
          },
          [&](const Many&, const Many& w) {
            Numbers y;
            for (double id : ids)
              for (int64_t c = 0; c < cols; ++c)
                y.push_back(w[0][index(static_cast<int64_t>(id) * cols + c)]);
            return y;
          });
}

INSTANTIATE_TEST_SUITE_P(Both, Types, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// The weights' gradient and, at its side, the balance loss's. Choosing has no gradient: the ids are
// those of the start.
TEST(RouteFunction, AddsTheBalanceLoss) {
  const int64_t tokens = 12, experts = 10, top_k = 3, length = 4;
  const RouteSettings settings{.top_k = top_k, .routed_scaling_factor = 2.5};
  const BalanceLoss balance{.sequence_tokens = length, .alpha = 0.7, .gradient_scale = 0.5};
  const Numbers start = test::random_numbers(tokens * experts, 3),
                bias = test::random_numbers(experts, 4);
  const std::vector<int> ids = test::reference_route(start, bias, settings, experts);
  const Numbers dw = test::random_numbers(tokens * top_k, 5);
  for (bool balances : {false, true}) {
    Context ctx(Device::cpu, 2);
    Segment segment(ctx, Mode::training);
    const Var logits = segment.input(test::tensor_of(ctx, {tokens, experts}, DType::f32, start));
    BalanceLoss options = balance;
    if (!balances) options.alpha = 0;
    const Route got = route(segment, logits, settings,
                            test::tensor_of(ctx, {experts}, DType::f32, bias), options);
    EXPECT_EQ(test::read(got.ids), Numbers(ids.begin(), ids.end()));
    test::expect_near(test::read(got.weights.get()),
                      test::reference_weights(start, ids, settings, experts), 2e-6, "weights");
    const auto balance_of = [&](const Numbers& x) {
      return test::reference_balance_loss(x, ids, settings, experts, length, options.alpha);
    };
    ASSERT_EQ(got.balance_loss.defined(), balances);
    if (balances)
      test::expect_near(test::read(got.balance_loss), balance_of(start), 2e-6, "balance loss");
    segment.finish_forward();
    segment.backward({{got.weights, test::tensor_of(ctx, {tokens, top_k}, DType::f32, dw)}});
    const Numbers expected = test::finite_differences(start, [&](const Numbers& x) {
      double sum = test::dot(test::reference_weights(x, ids, settings, experts), dw);
      for (double loss : balance_of(x)) sum += balance.gradient_scale * loss;
      return sum;
    });
    test::expect_near(test::read(logits.gradient->take()), expected, 2e-5, "gradient");
  }
}

}  // namespace
}  // namespace strait
