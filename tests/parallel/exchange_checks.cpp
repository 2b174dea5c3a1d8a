#include "exchange_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <list>
#include <optional>
#include <random>

#include "core/ops/elementwise.h"
#include "parallel/expert/expert_parts.h"
#include "parallel/mesh/mesh.h"

namespace strait::tests {
namespace {

// The whole batch, the same on every rank.
struct Batch {
  std::vector<float> x_TH, d_out_TH, weights_TK;
  std::vector<int32_t> ids_TK;
};

Batch make_batch(const ExchangeCase& c) {
  std::mt19937 random(7);
  const auto numbers = [&random](int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = float(int32_t(random() >> 8) - (1 << 23)) * 0x1p-22f;
    return values;
  };
  Batch batch{.x_TH = numbers(c.tokens * c.hidden),
              .d_out_TH = numbers(c.tokens * c.hidden),
              .weights_TK = numbers(c.tokens * c.top_k),
              .ids_TK = {}};
  for (int64_t token = 0; token < c.tokens; ++token) {
    batch.x_TH[static_cast<size_t>(token * c.hidden)] = float(token % 256);  // exact in BF16
    std::vector<int32_t> groups(static_cast<size_t>(c.num_groups)), experts;
    for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int32_t>(i);
    std::shuffle(groups.begin(), groups.end(), random);
    const auto of_group = static_cast<int32_t>(c.num_experts / c.num_groups);
    for (size_t i = 0; i < static_cast<size_t>(c.topk_group); ++i)
      for (int32_t e = 0; e < of_group; ++e) experts.push_back(groups[i] * of_group + e);
    std::shuffle(experts.begin(), experts.end(), random);
    batch.ids_TK.insert(batch.ids_TK.end(), experts.begin(), experts.begin() + c.top_k);
  }
  return batch;
}

// Rank r of R: uneven, and rank 1 of three or more has none.
int64_t first_token(const ExchangeCase& c, int rank, int ranks) {
  if (ranks == 1) return rank * c.tokens;
  if (ranks > 2 && rank == 2) rank = 1;
  return c.tokens * rank * (ranks + rank) / (2 * ranks * ranks);
}

template <class T>
Tensor matrix(Context& ctx, const std::vector<T>& values, int64_t first, int64_t rows,
              int64_t cols) {
  Tensor tensor = ctx.empty({rows, cols}, dtype_of<T>(), Purpose::workspace);
  std::copy_n(values.begin() + first * cols, rows * cols, tensor.template data<T>());
  return tensor;
}

Tensor as(Context& ctx, const Tensor& tensor, DType dtype) {
  if (tensor.dtype() == dtype) return tensor;
  Tensor result = ctx.empty(tensor.shape(), dtype, Purpose::workspace);
  cast(ctx, tensor, result);
  return result;
}

// Stands in for experts: expert e multiplies a row by a number of its own.
float factor(int64_t expert) { return 1.0f + 0.37f * float(expert); }

class Experts {
 public:
  Experts(Context& ctx, const ExchangeCase& c, const ExpertBatch& batch,
          const LocalExperts& experts)
      : ctx_(ctx), c_(c), batch_(batch), rows_(as(ctx, batch.rows->get(), DType::f32)) {
    const auto& offsets = *batch.offsets;
    for (size_t e = 0; e + 1 < offsets.size(); ++e)
      for (int64_t pair = offsets[e]; pair < offsets[e + 1]; ++pair)
        expert_of_pair_.push_back(experts.id(static_cast<int64_t>(e)));
  }

  Tensor sums(DType dtype) {
    Tensor pairs = ctx_.empty({num_pairs(), c_.hidden}, DType::f32, Purpose::workspace);
    for (int64_t pair = 0; pair < num_pairs(); ++pair)
      for (int64_t i = 0; i < c_.hidden; ++i)
        at(pairs, pair, i) = weight(pair) * (factor(expert(pair)) * at(rows_, row(pair), i));
    Tensor result = ctx_.empty({rows_.rows(), c_.hidden}, dtype, Purpose::workspace);
    tree_sum(ctx_, pairs, batch_.pairs->pairs_of_row, batch_.pairs->range, Accumulate::no, result);
    return result;
  }

  ExpertsGradient gradient(const Tensor& d_sums_wire) {
    const Tensor d_sums = as(ctx_, d_sums_wire, DType::f32);
    Tensor pairs = ctx_.empty({num_pairs(), c_.hidden}, DType::f32, Purpose::workspace);
    ExpertsGradient result{
        .d_rows = ctx_.empty({rows_.rows(), c_.hidden}, DType::f32, Purpose::workspace),
        .d_pair_weights = ctx_.empty({num_pairs()}, DType::f32, Purpose::workspace)};
    for (int64_t pair = 0; pair < num_pairs(); ++pair) {
      float dot = 0;
      for (int64_t i = 0; i < c_.hidden; ++i) {
        const float d = at(d_sums, row(pair), i) * factor(expert(pair));
        at(pairs, pair, i) = weight(pair) * d;
        dot += d * at(rows_, row(pair), i);
      }
      result.d_pair_weights.data<float>()[pair] = dot;
    }
    tree_sum(ctx_, pairs, batch_.pairs->pairs_of_row, batch_.pairs->range, Accumulate::no,
             result.d_rows);
    return result;
  }

  void add_tokens_to(std::map<int64_t, std::vector<int32_t>>& tokens_of_expert) const {
    for (int64_t pair = 0; pair < num_pairs(); ++pair)
      tokens_of_expert[expert(pair)].push_back(static_cast<int32_t>(at(rows_, row(pair), 0)));
  }

 private:
  int64_t num_pairs() const { return static_cast<int64_t>(expert_of_pair_.size()); }
  int64_t expert(int64_t pair) const { return expert_of_pair_[static_cast<size_t>(pair)]; }
  int64_t row(int64_t pair) const { return batch_.pairs->row_of_pair.data<int32_t>()[pair]; }
  float weight(int64_t pair) const { return batch_.pair_weights.data<float>()[pair]; }
  float& at(const Tensor& rows, int64_t row, int64_t i) const {
    return rows.data<float>()[row * c_.hidden + i];
  }

  Context& ctx_;
  const ExchangeCase& c_;
  const ExpertBatch& batch_;
  const Tensor rows_;
  std::vector<int64_t> expert_of_pair_;
};

std::vector<float> values_of(const Tensor& tensor) {
  const auto values = tensor.span<float>();
  return {values.begin(), values.end()};
}

}  // namespace

ExchangeResult run_exchange(const ExchangeCase& c, Comm* comm, bool two_tier, int chunks) {
  const int ranks = comm ? comm->size() : 1;
  const Rank rank = comm ? comm->rank() : Rank{0};
  const Mesh mesh(ranks, 1, ranks, comm ? comm->nodes() : std::vector<std::string>{});
  const ExpertLinks links = expert_links(mesh, rank, comm, two_tier, chunks);
  const auto run = [&](OperationPtr operation) {
    if (operation) comm->enqueue(links.lane, std::move(operation)).wait();
  };
  const LaneBytes before = comm ? comm->bytes_sent(links.lane) : LaneBytes{};

  Batch batch = make_batch(c);
  if (c.last_x != 0) batch.x_TH.back() = c.last_x;
  if (c.last_gradient != 0) batch.d_out_TH.back() = c.last_gradient;
  ExchangeResult result;
  result.first = first_token(c, rank.value, ranks);
  result.count = first_token(c, rank.value + 1, ranks) - result.first;
  Context ctx(Device::cpu, 1);
  const Tensor ids = matrix(ctx, batch.ids_TK, result.first, result.count, c.top_k);
  const Tensor weights = matrix(ctx, batch.weights_TK, result.first, result.count, c.top_k);
  const Tensor x =
      as(ctx, matrix(ctx, batch.x_TH, result.first, result.count, c.hidden), c.compute);
  ExpertWaves exchange({.ctx = &ctx,
                        .links = links,
                        .num_experts = c.num_experts,
                        .compute = c.compute,
                        .combine_wire = c.wire,
                        .fp8 = c.fp8,
                        .fp8_sums = c.fp8_sums,
                        .name = "model.layers.3.mlp.experts"},
                       c.waves, std::make_shared<Value>(x), ids, weights);
  const LocalExperts local = experts_of_rank(links, c.num_experts, exchange.num_waves());
  std::list<ExpertBatch> arrived;
  std::vector<Experts> experts;
  for (int i = 0; i < exchange.num_waves(); ++i) {
    ExpertExchange& wave = exchange.wave(i);
    run(wave.dispatch());
    arrived.push_back(wave.arrived());
    experts.emplace_back(ctx, c, arrived.back(), local);
    experts.back().add_tokens_to(result.tokens_of_expert);
    wave.pack_sums(experts.back().sums(wave.sums_dtype()));
    run(wave.combine());
  }
  Tensor hidden = ctx.zeros({result.count, c.hidden}, DType::f32, Purpose::workspace);
  exchange.add_sums(ctx, hidden);
  result.sums = values_of(hidden);

  if (c.backward) {
    exchange.pack_gradient(ctx, matrix(ctx, batch.d_out_TH, result.first, result.count, c.hidden));
    for (int i = 0; i < exchange.num_waves(); ++i) {
      ExpertExchange& wave = exchange.wave(i);
      run(wave.combine_inverse());
      wave.pack_expert_gradients(experts[static_cast<size_t>(i)].gradient(wave.take_d_sums()));
      run(wave.dispatch_inverse());
    }
    const ExpertExchange::Gradients gradients = exchange.take_gradients();
    result.d_x = values_of(gradients.d_x);
    result.d_weights = values_of(gradients.d_weights);
  }
  if (!comm) return result;
  const LaneBytes sent = comm->bytes_sent(links.lane);
  result.far_bytes = sent.other_nodes - before.other_nodes;
  result.near_bytes = sent.same_node - before.same_node;
  result.floor_bytes = *links.floor_bytes;
  return result;
}

void check_same_bits(const ExchangeCase& c, const ExchangeResult& one, Comm& comm, bool two_tier,
                     int chunks) {
  const ExchangeResult got = run_exchange(c, &comm, two_tier, chunks);
  const auto expect_equal = [&](const char* what, const std::vector<float>& mine,
                                const std::vector<float>& all) {
    const auto width = static_cast<int64_t>(all.size()) / c.tokens;
    ASSERT_EQ(static_cast<int64_t>(mine.size()), got.count * width) << what;
    int64_t tokens = 0;
    for (int64_t token = 0; token < got.count; ++token)
      tokens += std::memcmp(&mine[static_cast<size_t>(token * width)],
                            &all[static_cast<size_t>((got.first + token) * width)],
                            static_cast<size_t>(width) * sizeof(float)) != 0;
    EXPECT_EQ(tokens, 0) << "tokens of " << got.count << " with other " << what;
  };
  expect_equal("sums", got.sums, one.sums);
  if (c.backward) {
    expect_equal("gradients", got.d_x, one.d_x);
    expect_equal("gate gradients", got.d_weights, one.d_weights);
  }
  for (const auto& [expert, tokens] : got.tokens_of_expert)
    EXPECT_EQ(tokens, one.tokens_of_expert.at(expert)) << "expert " << expert;
}

std::vector<float> expected_sums(const ExchangeCase& c, int64_t ranks, int64_t nodes,
                                 bool two_tier) {
  const Batch batch = make_batch(c);
  const auto rounded = [](float value, DType dtype) {
    return dtype == DType::bf16 ? to_float(to_bfloat16(value)) : value;
  };
  std::vector<float> sums;
  for (int64_t token = 0; token < c.tokens; ++token) {
    const auto slots = static_cast<size_t>(token * c.top_k);
    for (int64_t i = 0; i < c.hidden; ++i) {
      const float x = rounded(batch.x_TH[static_cast<size_t>(token * c.hidden + i)], c.compute);
      const std::function<std::optional<float>(int64_t, int64_t)> sum =
          [&](int64_t first, int64_t last) -> std::optional<float> {
        std::optional<float> result;
        if (last - first == 1) {
          for (size_t slot = slots; slot < slots + static_cast<size_t>(c.top_k); ++slot)
            if (batch.ids_TK[slot] == first) result = batch.weights_TK[slot] * (factor(first) * x);
        } else {
          const int64_t middle = first + (last - first) / 2;
          const auto left = sum(first, middle), right = sum(middle, last);
          result = left && right ? *left + *right : left ? left : right;
        }
        const int64_t size = last - first;
        const bool travels = size == c.num_experts / (ranks * c.waves) ||
                             (two_tier && size == c.num_experts / (nodes * c.waves));
        return result && travels ? rounded(*result, c.wire) : result;
      };
      sums.push_back(sum(0, c.num_experts).value_or(0.0f));
    }
  }
  return sums;
}

}  // namespace strait::tests
