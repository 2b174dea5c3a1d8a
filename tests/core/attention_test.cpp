#include "core/ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "core/ops/cpu/isa.h"

namespace strait {
namespace {

using Values = std::vector<double>;

int64_t at(int64_t row, int64_t cols, int64_t col) { return row * cols + col; }
size_t index(int64_t i) { return static_cast<size_t>(i); }

// A matrix of the given dtype inside a wider one, so that its rows are strided; the margin must
// stay untouched.
struct Matrix {
  Tensor whole, view;
  static constexpr int64_t kMargin = 3;

  Matrix(Context& ctx, int64_t rows, int64_t cols, DType dtype)
      : whole(ctx.zeros({rows, cols + 2 * kMargin}, dtype, Purpose::activations)),
        view(whole.slice_cols(kMargin, cols)) {}

  double get(int64_t row, int64_t col) const {
    const int64_t i = row * view.row_stride() + col;
    return view.dtype() == DType::f32 ? view.data<float>()[i] : to_float(view.data<bfloat16>()[i]);
  }
  void set(int64_t row, int64_t col, double value) const {
    const int64_t i = row * view.row_stride() + col;
    if (view.dtype() == DType::f32)
      view.data<float>()[i] = static_cast<float>(value);
    else
      view.data<bfloat16>()[i] = to_bfloat16(static_cast<float>(value));
  }
  Values values() const {
    Values result;
    for (int64_t r = 0; r < view.rows(); ++r)
      for (int64_t c = 0; c < view.cols(); ++c) result.push_back(get(r, c));
    return result;
  }
  std::string bytes() const {
    return {reinterpret_cast<const char*>(whole.raw()), index(whole.bytes())};
  }
};

struct Case {
  AttentionShape shape;
  DType dtype = DType::f32;
  double spread = 1;  // standard deviation of q
};

// Operands and results of one call, filled from a seed.
struct Problem {
  AttentionShape s;
  Matrix q, kv, k_rope, o, lse, d_o, d_q, d_kv, d_k_rope;

  Problem(Context& ctx, const Case& c, unsigned seed = 1)
      : s(c.shape),
        q(ctx, s.num_tokens(), s.num_heads * s.qk_dim(), c.dtype),
        kv(ctx, s.num_tokens(), s.num_heads * (s.qk_nope_dim + s.v_dim), c.dtype),
        k_rope(ctx, s.num_tokens(), s.qk_rope_dim, c.dtype),
        o(ctx, s.num_tokens(), s.num_heads * s.v_dim, c.dtype),
        lse(ctx, s.num_tokens(), s.num_heads, DType::f32),
        d_o(ctx, s.num_tokens(), s.num_heads * s.v_dim, c.dtype),
        d_q(ctx, s.num_tokens(), q.view.cols(), c.dtype),
        d_kv(ctx, s.num_tokens(), kv.view.cols(), c.dtype),
        d_k_rope(ctx, s.num_tokens(), s.qk_rope_dim, c.dtype) {
    std::mt19937 random(seed);
    fill(q, random, c.spread);
    for (const Matrix* x : {&kv, &k_rope, &d_o}) fill(*x, random, 1);
    for (const Matrix* x : {&o, &lse, &d_q, &d_kv, &d_k_rope})
      fill(*x, random, 1e6);  // must be overwritten
  }
  static void fill(const Matrix& x, std::mt19937& random, double spread) {
    std::normal_distribution<double> normal(0, spread);
    for (int64_t r = 0; r < x.view.rows(); ++r)
      for (int64_t c = 0; c < x.view.cols(); ++c) x.set(r, c, normal(random));
  }
  void forward(Context& ctx) const {
    attention(ctx, s, q.view, kv.view, k_rope.view, o.view, lse.view);
  }
  void backward(Context& ctx) const {
    attention_backward(ctx, s, q.view, kv.view, k_rope.view, o.view, lse.view, d_o.view, d_q.view,
                       d_kv.view, d_k_rope.view);
  }
  std::string result_bytes() const {
    return o.bytes() + lse.bytes() + d_q.bytes() + d_kv.bytes() + d_k_rope.bytes();
  }
};

// The definition, in double, with the whole matrix of probabilities.
struct Reference {
  AttentionShape s;
  Values q, kv, k_rope, d_o;
  Values o, lse, d_q, d_kv, d_k_rope;
  int64_t heads, qk, nope, kv_cols;

  explicit Reference(const Problem& p)
      : s(p.s),
        q(p.q.values()),
        kv(p.kv.values()),
        k_rope(p.k_rope.values()),
        d_o(p.d_o.values()),
        heads(s.num_heads),
        qk(s.qk_dim()),
        nope(s.qk_nope_dim),
        kv_cols(nope + s.v_dim) {
    run();
  }
  double key(int64_t row, int64_t head, int64_t d) const {
    return d < nope ? kv[index(at(row, heads * kv_cols, head * kv_cols + d))]
                    : k_rope[index(at(row, s.qk_rope_dim, d - nope))];
  }
  void run() {
    const int64_t tokens = s.num_tokens();
    o.assign(index(tokens * heads * s.v_dim), 0);
    lse.assign(index(tokens * heads), 0);
    d_q.assign(q.size(), 0);
    d_kv.assign(kv.size(), 0);
    d_k_rope.assign(k_rope.size(), 0);
    for (int64_t row = 0; row < tokens; ++row)
      for (int64_t head = 0; head < heads; ++head) query(row, head);
  }
  void query(int64_t row, int64_t head) {
    const int64_t first = row - row % s.sequence_length, count = row - first + 1;
    Values p(index(count));
    double top = -INFINITY, total = 0;
    for (int64_t j = 0; j < count; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < qk; ++d)
        dot += q[index(at(row, heads * qk, head * qk + d))] * key(first + j, head, d);
      p[index(j)] = dot * s.softmax_scale;
      top = std::max(top, p[index(j)]);
    }
    for (double& x : p) total += x = std::exp(x - top);
    for (double& x : p) x /= total;
    lse[index(at(row, heads, head))] = top + std::log(total);
    double delta = 0;
    for (int64_t d = 0; d < s.v_dim; ++d) {
      const size_t out = index(at(row, heads * s.v_dim, head * s.v_dim + d));
      for (int64_t j = 0; j < count; ++j)
        o[out] +=
            p[index(j)] * kv[index(at(first + j, heads * kv_cols, head * kv_cols + nope + d))];
      delta += o[out] * d_o[out];
    }
    for (int64_t j = 0; j < count; ++j) {
      double d_p = 0;
      for (int64_t d = 0; d < s.v_dim; ++d) {
        const double gradient = d_o[index(at(row, heads * s.v_dim, head * s.v_dim + d))];
        const size_t value = index(at(first + j, heads * kv_cols, head * kv_cols + nope + d));
        d_p += gradient * kv[value];
        d_kv[value] += p[index(j)] * gradient;
      }
      const double d_s = p[index(j)] * (d_p - delta) * s.softmax_scale;
      for (int64_t d = 0; d < qk; ++d) {
        d_q[index(at(row, heads * qk, head * qk + d))] += d_s * key(first + j, head, d);
        double& d_key = d < nope ? d_kv[index(at(first + j, heads * kv_cols, head * kv_cols + d))]
                                 : d_k_rope[index(at(first + j, s.qk_rope_dim, d - nope))];
        d_key += d_s * q[index(at(row, heads * qk, head * qk + d))];
      }
    }
  }
};

// How far results may be from the reference, as parts of the rms of the tensor (at least
// kSmallest).
struct Tolerance {
  double worst = 0;     // of any element, beside `relative` times the element itself
  double typical = 0;   // of the rms of all errors
  double relative = 0;  // half a unit in the last place of the dtype, and what o's rounding adds
};
constexpr double kSmallest = 0.2;
constexpr Tolerance kFp32{.worst = 2e-5, .typical = 2e-6, .relative = 1e-6};
constexpr Tolerance kBf16{.worst = 6e-2, .typical = 1e-2, .relative = 1.0 / 128};

Tolerance tolerance_of(DType dtype) { return dtype == DType::f32 ? kFp32 : kBf16; }

void expect_close(const char* name, const Values& got, const Values& want,
                  const Tolerance& allowed) {
  ASSERT_EQ(got.size(), want.size()) << name;
  if (want.empty()) return;
  double want_square = 0, error_square = 0, worst = 0;
  size_t where = 0;
  for (double x : want) want_square += x * x;
  const double count = static_cast<double>(want.size());
  const double rms = std::max(std::sqrt(want_square / count), kSmallest);
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::isfinite(got[i]) ? std::abs(got[i] - want[i]) : INFINITY;
    error_square += error * error;
    const double share = error / (allowed.worst * rms + allowed.relative * std::abs(want[i]));
    if (share > worst) worst = share, where = i;
  }
  EXPECT_LE(worst, 1) << name << "[" << where << "]: got " << got[where] << ", want " << want[where]
                      << ", rms " << rms;
  EXPECT_LE(std::sqrt(error_square / count), allowed.typical * rms) << name;
}

AttentionShape shape_of(int64_t B, int64_t S, int64_t N, int64_t nope, int64_t rope, int64_t v) {
  return {.num_sequences = B,
          .sequence_length = S,
          .num_heads = N,
          .qk_nope_dim = nope,
          .qk_rope_dim = rope,
          .v_dim = v,
          .softmax_scale = 1.0f / std::sqrt(static_cast<float>(nope + rope))};
}

std::vector<AttentionShape> shapes() {
  return {shape_of(1, 1, 1, 1, 0, 1),       shape_of(2, 1, 3, 12, 8, 20),
          shape_of(2, 7, 2, 13, 3, 5),      shape_of(1, 16, 2, 12, 8, 20),
          shape_of(1, 48, 2, 64, 32, 64),   shape_of(2, 49, 2, 12, 8, 20),
          shape_of(1, 95, 3, 0, 10, 17),    shape_of(1, 97, 1, 33, 0, 100),
          shape_of(3, 144, 2, 12, 8, 20),   shape_of(1, 200, 2, 64, 32, 64),
          shape_of(1, 193, 1, 128, 64, 128)};
}

class AttentionShapes : public testing::TestWithParam<std::tuple<AttentionShape, DType>> {};

TEST_P(AttentionShapes, MatchesTheDefinitionAndItsGradients) {
  const auto [shape, dtype] = GetParam();
  Context ctx(Device::cpu, 2);
  const Problem p(ctx, {.shape = shape, .dtype = dtype});
  p.forward(ctx);
  p.backward(ctx);
  const Reference want(p);
  const Tolerance tolerance = tolerance_of(dtype);
  expect_close("o", p.o.values(), want.o, tolerance);
  expect_close("lse", p.lse.values(), want.lse, kFp32);
  expect_close("d_q", p.d_q.values(), want.d_q, tolerance);
  expect_close("d_kv", p.d_kv.values(), want.d_kv, tolerance);
  expect_close("d_k_rope", p.d_k_rope.values(), want.d_k_rope, tolerance);
}

INSTANTIATE_TEST_SUITE_P(All, AttentionShapes,
                         testing::Combine(testing::ValuesIn(shapes()),
                                          testing::Values(DType::f32, DType::bf16)),
                         [](const auto& info) {
                           const AttentionShape s = std::get<0>(info.param);
                           std::string name = name_of(std::get<1>(info.param));
                           for (int64_t n : {s.num_sequences, s.sequence_length, s.num_heads,
                                             s.qk_nope_dim, s.qk_rope_dim, s.v_dim})
                             name += "_" + std::to_string(n);
                           return name;
                         });

// Scores of several hundred: the softmax is a hard choice in places, and e^score would overflow.
TEST(Attention, LargeScoresStayFinite) {
  Context ctx(Device::cpu, 2);
  const Problem p(ctx, {.shape = shape_of(1, 130, 2, 12, 8, 20), .spread = 200});
  p.forward(ctx);
  p.backward(ctx);
  const Reference want(p);
  const Tolerance tolerance{
      .worst = 2e-3, .typical = 1e-4, .relative = 1e-4};  // of exp(score), score ~ 500
  expect_close("o", p.o.values(), want.o, tolerance);
  expect_close("lse", p.lse.values(), want.lse, kFp32);
  expect_close("d_q", p.d_q.values(), want.d_q, tolerance);
  expect_close("d_kv", p.d_kv.values(), want.d_kv, tolerance);
  expect_close("d_k_rope", p.d_k_rope.values(), want.d_k_rope, tolerance);
}

// Moves every input along a random direction and compares the change of sum(o * d_o) with the
// gradient.
TEST(Attention, GradientsMatchFiniteDifferences) {
  Context ctx(Device::cpu, 1);
  const Problem p(ctx, {.shape = shape_of(2, 53, 2, 12, 8, 20)});
  p.forward(ctx);
  p.backward(ctx);
  const auto objective = [&] {
    p.forward(ctx);
    double sum = 0;
    const Values o = p.o.values(), d_o = p.d_o.values();
    for (size_t i = 0; i < o.size(); ++i) sum += o[i] * d_o[i];
    return sum;
  };
  const std::pair<const Matrix*, const Matrix*> inputs[] = {
      {&p.q, &p.d_q}, {&p.kv, &p.d_kv}, {&p.k_rope, &p.d_k_rope}};
  for (const auto& [input, gradient] : inputs) {
    std::mt19937 random(7);
    std::normal_distribution<double> normal;
    const Values before = input->values(), slope = gradient->values();
    Values direction(before.size());
    double norm = 0;
    for (size_t i = 0; i < slope.size();
         ++i) {  // partly along the gradient, so that the change is large
      direction[i] = slope[i] + 0.3 * normal(random);
      norm += direction[i] * direction[i];
    }
    for (double& x : direction) x /= std::sqrt(norm);
    const double step = 0.03;
    const auto moved = [&](double by) {
      for (int64_t r = 0, i = 0; r < input->view.rows(); ++r)
        for (int64_t c = 0; c < input->view.cols(); ++c, ++i)
          input->set(r, c, before[index(i)] + by * direction[index(i)]);
      return objective();
    };
    const double change = (moved(step) - moved(-step)) / (2 * step);
    moved(0);
    double want = 0;
    for (size_t i = 0; i < slope.size(); ++i) want += slope[i] * direction[i];
    EXPECT_NEAR(change, want, 2e-3 * std::abs(want));
  }
}

class AttentionTypes : public testing::TestWithParam<DType> {};

TEST_P(AttentionTypes, SameBitsWithAnyNumberOfThreads) {
  const Case c{.shape = shape_of(3, 113, 3, 12, 8, 20), .dtype = GetParam()};
  std::string first;
  for (int threads : {1, 2, 4, 16}) {
    Context ctx(Device::cpu, threads);
    const Problem p(ctx, c);
    p.forward(ctx);
    p.backward(ctx);
    if (threads == 1) first = p.result_bytes();
    EXPECT_EQ(p.result_bytes(), first) << threads << " threads";
  }
}

TEST_P(AttentionTypes, ASequenceDoesNotSeeTheOthers) {
  Context ctx(Device::cpu, 2);
  const Case all{.shape = shape_of(3, 67, 2, 13, 8, 20), .dtype = GetParam()};
  const Problem p(ctx, all);
  p.forward(ctx);
  p.backward(ctx);
  const Case one{.shape = shape_of(1, 67, 2, 13, 8, 20), .dtype = GetParam()};
  const Problem alone(ctx, one);
  const std::pair<const Matrix*, const Matrix*> inputs[] = {
      {&p.q, &alone.q}, {&p.kv, &alone.kv}, {&p.k_rope, &alone.k_rope}, {&p.d_o, &alone.d_o}};
  for (const auto& [from, to] : inputs)
    std::memcpy(to->whole.raw(), from->whole.slice_rows(67, 67).raw(), index(to->whole.bytes()));
  alone.forward(ctx);
  alone.backward(ctx);
  const std::pair<const Matrix*, const Matrix*> results[] = {{&p.o, &alone.o},
                                                             {&p.lse, &alone.lse},
                                                             {&p.d_q, &alone.d_q},
                                                             {&p.d_kv, &alone.d_kv},
                                                             {&p.d_k_rope, &alone.d_k_rope}};
  for (const auto& [from, to] : results)
    EXPECT_EQ(std::memcmp(to->whole.raw(), from->whole.slice_rows(67, 67).raw(),
                          index(to->whole.bytes())),
              0);
}

// What comes later must not reach an earlier row, not even as a product with zero.
TEST_P(AttentionTypes, LaterTokensDoNotLeakBackwards) {
  Context ctx(Device::cpu, 1);
  const Case c{.shape = shape_of(1, 150, 1, 12, 8, 20), .dtype = GetParam()};
  const Problem clean(ctx, c), spoilt(ctx, c);
  const int64_t bad = 101;
  for (const Matrix* x : {&spoilt.q, &spoilt.kv, &spoilt.k_rope})
    for (int64_t col = 0; col < x->view.cols(); ++col) x->set(bad, col, 1e30);
  clean.forward(ctx);
  spoilt.forward(ctx);
  for (int64_t row = 0; row < bad; ++row) {
    EXPECT_EQ(clean.lse.get(row, 0), spoilt.lse.get(row, 0));
    for (int64_t col = 0; col < c.shape.v_dim; ++col)
      EXPECT_EQ(clean.o.get(row, col), spoilt.o.get(row, col));
  }
}

TEST_P(AttentionTypes, ANanInTheQueryIsANanInItsRowOnly) {
  Context ctx(Device::cpu, 1);
  const Problem p(ctx, {.shape = shape_of(1, 70, 1, 12, 8, 20), .dtype = GetParam()});
  p.q.set(60, 3, NAN);
  p.forward(ctx);
  for (int64_t row = 0; row < 70; ++row)
    for (int64_t col = 0; col < 20; ++col)
      EXPECT_EQ(std::isnan(p.o.get(row, col)), row == 60) << row;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTypes, testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return name_of(info.param); });

TEST(Attention, WritesOnlyItsColumns) {
  Context ctx(Device::cpu, 2);
  const Problem p(ctx, {.shape = shape_of(2, 50, 2, 12, 8, 20), .dtype = DType::bf16});
  p.forward(ctx);
  p.backward(ctx);
  for (const Matrix* x : {&p.o, &p.lse, &p.d_q, &p.d_kv, &p.d_k_rope})
    for (int64_t row = 0; row < x->view.rows(); ++row)
      for (int64_t col = 1; col <= Matrix::kMargin; ++col) {
        EXPECT_EQ(x->get(row, -col), 0);
        EXPECT_EQ(x->get(row, x->view.cols() - 1 + col), 0);
      }
}

TEST(Attention, BillsTheVisiblePairsAndPlansTheSameMemoryOnMeta) {
  const Case c{.shape = shape_of(2, 100, 4, 12, 8, 20)};
  Context meta(Device::meta, 2), cpu(Device::cpu, 2);
  const auto plan = [&](Context& ctx) {
    const auto matrix = [&](int64_t cols, DType dtype) {
      return ctx.empty({c.shape.num_tokens(), cols}, dtype, Purpose::activations);
    };
    const Tensor q = matrix(80, c.dtype), kv = matrix(128, c.dtype), k_rope = matrix(8, c.dtype);
    const Tensor o = matrix(80, c.dtype), lse = matrix(4, DType::f32), d_q = matrix(80, c.dtype);
    std::vector<Cost> ops;
    ctx.record_ops(&ops);
    attention(ctx, c.shape, q, kv, k_rope, o, lse);
    EXPECT_EQ(ctx.spent().flops, 2 * 4 * (100 * 101 / 2) * 2.0 * (20 + 20));
    attention_backward(ctx, c.shape, q, kv, k_rope, o, lse, o, d_q, kv, k_rope);
    EXPECT_EQ(ctx.spent().flops, 3 * 2 * 4 * (100 * 101 / 2) * 2.0 * (20 + 20));
    ctx.record_ops(nullptr);
    ASSERT_EQ(ops.size(), 2u);
    for (const Cost& op : ops) EXPECT_EQ(op.op_class, OpClass::attention);
    EXPECT_EQ(ops[0].again_flops, 0);
    EXPECT_EQ(ops[1].again_flops, 2 * 4 * (100 * 101 / 2) * 2.0 * 20);  // the scores
  };
  plan(meta);
  Context* contexts[] = {&meta, &cpu};
  Problem p(cpu, c);
  cpu.reset_spent();
  plan(*contexts[1]);
  EXPECT_EQ(meta.memory().peak_by_purpose().bytes[static_cast<int>(Purpose::workspace)],
            cpu.memory().peak_by_purpose().bytes[static_cast<int>(Purpose::workspace)]);
}

TEST(Attention, WorkspaceIsLinearInTheSequence) {
  const auto workspace = [](int64_t length) {
    Context ctx(Device::meta, 1);
    const AttentionShape s = shape_of(1, length, 1, 64, 32, 64);
    const auto matrix = [&](int64_t cols) {
      return ctx.empty({length, cols}, DType::f32, Purpose::activations);
    };
    const Tensor q = matrix(96), kv = matrix(128), k_rope = matrix(32), o = matrix(64),
                 lse = matrix(1);
    attention_backward(ctx, s, q, kv, k_rope, o, lse, o, q, kv, k_rope);
    attention(ctx, s, q, kv, k_rope, o, lse);
    return ctx.memory().peak_by_purpose().bytes[static_cast<int>(Purpose::workspace)];
  };
  EXPECT_LT(workspace(16384), 2.1 * static_cast<double>(workspace(8192)));
}

TEST(Attention, EmptyAndWrongOperands) {
  Context ctx(Device::cpu, 1);
  const Problem empty(ctx, {.shape = shape_of(0, 5, 2, 12, 8, 20)});
  empty.forward(ctx);
  empty.backward(ctx);
  const Problem p(ctx, {.shape = shape_of(1, 5, 2, 12, 8, 20)});
  EXPECT_THROW(attention(ctx, p.s, p.kv.view, p.kv.view, p.k_rope.view, p.o.view, p.lse.view),
               InternalError);
  AttentionShape no_scale = p.s;
  no_scale.softmax_scale = 0;
  EXPECT_THROW(attention(ctx, no_scale, p.q.view, p.kv.view, p.k_rope.view, p.o.view, p.lse.view),
               InternalError);
  const Problem other(ctx, {.shape = p.s, .dtype = DType::bf16});
  try {
    attention(ctx, p.s, p.q.view, other.kv.view, p.k_rope.view, p.o.view, p.lse.view);
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_NE(
        std::string(error.what()).find("[attention] kv: expected f32 [5, 64], got bf16 [5, 64]"),
        std::string::npos)
        << error.what();
  }
}

// The instruction set is chosen once per process, so the weaker ones are tested by running this
// program again.
TEST(EveryIsa, PassesTheSameTests) {
  for (const cpu::Isa isa : {cpu::Isa::portable, cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (isa >= cpu::best_isa()) continue;
    const std::string command = std::string("STRAIT_CPU_ISA=") + cpu::name_of(isa) + " " +
                                std::filesystem::read_symlink("/proc/self/exe").string() +
                                " --gtest_brief=1 --gtest_filter=-EveryIsa.*";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
}

}  // namespace
}  // namespace strait
