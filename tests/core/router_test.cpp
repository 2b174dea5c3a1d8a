#include "core/ops/router.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "op_test.h"
#include "router_reference.h"

namespace strait {
namespace {

using Method = RouteSettings::Method;
using Scoring = RouteSettings::Scoring;
using test::Numbers;
using test::reference_route;
using test::reference_weights;

struct Case {
  int64_t tokens, experts;
  RouteSettings settings;
};

const Case kCases[] = {
    {1, 8, {.top_k = 2}},
    {33, 21, {.top_k = 5, .routed_scaling_factor = 2.5}},
    {64, 64, {.top_k = 6, .n_group = 8, .topk_group = 3, .routed_scaling_factor = 2.5}},
    {40, 256, {.top_k = 8, .n_group = 8, .topk_group = 4, .routed_scaling_factor = 2.5}},
    {17,
     12,
     {.top_k = 3, .scoring = Scoring::softmax, .method = Method::greedy, .norm_topk_prob = false}},
    {50,
     160,
     {.top_k = 6,
      .n_group = 8,
      .topk_group = 3,
      .scoring = Scoring::softmax,
      .method = Method::group_limited_greedy,
      .norm_topk_prob = false,
      .routed_scaling_factor = 16}},
    {9, 64, {.top_k = 8, .scoring = Scoring::softmax, .method = Method::greedy}},
    {9, 6, {.top_k = 6, .method = Method::greedy}},
};

class Router : public ::testing::TestWithParam<Case> {
 protected:
  const int64_t tokens_ = GetParam().tokens, experts_ = GetParam().experts,
                top_k_ = GetParam().settings.top_k;
  const RouteSettings settings_ = GetParam().settings;
  const Numbers logits_ = test::random_numbers(tokens_ * experts_, 1, 2);
  // Strongly negative for some: a mask of 0 in place of -inf would choose excluded experts.
  const Numbers bias_ =
      settings_.method == Method::noaux_tc ? test::random_numbers(experts_, 2, 1.5) : Numbers();

  Tensor bias(Context& ctx) const {
    return bias_.empty() ? Tensor() : test::tensor_of(ctx, {experts_}, DType::f32, bias_);
  }
};

TEST_P(Router, ChoosesAndWeighsAsTheReference) {
  Context ctx(Device::cpu, 2);
  const Tensor logits = test::view_of(ctx, tokens_, experts_, DType::f32, logits_);
  Tensor ids = ctx.empty({tokens_, top_k_}, DType::i32, Purpose::activations);
  Tensor weights = ctx.empty({tokens_, top_k_}, DType::f32, Purpose::activations);
  route(ctx, logits, bias(ctx), settings_, ids, weights);
  const std::vector<int> expected = reference_route(logits_, bias_, settings_, experts_);
  test::expect_same_bits(test::read(ids), Numbers(expected.begin(), expected.end()), "ids");
  test::expect_near(test::read(weights), reference_weights(logits_, expected, settings_, experts_),
                    2e-6, "weights");
}

TEST_P(Router, BackwardMatchesFiniteDifferences) {
  Context ctx(Device::cpu, 2);
  const Tensor logits = test::view_of(ctx, tokens_, experts_, DType::f32, logits_);
  const std::vector<int> chosen = reference_route(logits_, bias_, settings_, experts_);
  const Tensor ids =
      test::tensor_of(ctx, {tokens_, top_k_}, DType::i32, Numbers(chosen.begin(), chosen.end()));
  const Numbers d_weights = test::random_numbers(tokens_ * top_k_, 3);
  Tensor d_logits = test::view_of(ctx, tokens_, experts_, DType::f32, Numbers(logits_.size(), 4));
  route_backward(ctx, test::tensor_of(ctx, {tokens_, top_k_}, DType::f32, d_weights), logits, ids,
                 settings_, d_logits);
  Numbers expected;
  for (int64_t t = 0; t < tokens_; ++t) {
    const std::vector<int> row_ids(chosen.begin() + t * top_k_, chosen.begin() + (t + 1) * top_k_);
    const Numbers dw(d_weights.begin() + t * top_k_, d_weights.begin() + (t + 1) * top_k_);
    const Numbers d = test::finite_differences(
        Numbers(logits_.begin() + t * experts_, logits_.begin() + (t + 1) * experts_),
        [&](const Numbers& row) {
          return test::dot(reference_weights(row, row_ids, settings_, experts_), dw);
        });
    expected.insert(expected.end(), d.begin(), d.end());
  }
  test::expect_near(test::read(d_logits), expected, 2e-5, "d_logits");
}

TEST_P(Router, BalanceLossMatchesFiniteDifferences) {
  const int64_t length = std::min<int64_t>(tokens_, 7), tokens = tokens_ / length * length;
  const Numbers logits(logits_.begin(), logits_.begin() + tokens * experts_);
  const std::vector<int> chosen = reference_route(logits, bias_, settings_, experts_);
  const double alpha = 0.3, gradient_scale = 0.25;
  Context ctx(Device::cpu, 2);
  const Tensor logits_TE = test::view_of(ctx, tokens, experts_, DType::f32, logits);
  const Tensor ids =
      test::tensor_of(ctx, {tokens, top_k_}, DType::i32, Numbers(chosen.begin(), chosen.end()));
  Tensor loss = ctx.empty({tokens / length}, DType::f32, Purpose::activations);
  Tensor d_logits = test::view_of(ctx, tokens, experts_, DType::f32, Numbers(logits.size(), 0));
  const BalanceLoss options{
      .sequence_tokens = length, .alpha = alpha, .gradient_scale = gradient_scale};
  balance_loss(ctx, logits_TE, ids, settings_, options, loss, d_logits);
  test::expect_near(
      test::read(loss),
      test::reference_balance_loss(logits, chosen, settings_, experts_, length, alpha), 2e-6,
      "loss");
  const auto total = [&](const Numbers& x, const std::vector<int>& ids_of_x) {
    const Numbers all =
        test::reference_balance_loss(x, ids_of_x, settings_, experts_, length, alpha);
    return gradient_scale * std::accumulate(all.begin(), all.end(), 0.0);
  };
  Numbers expected;  // sequence by sequence: they are independent
  for (int64_t first = 0; first < tokens; first += length) {
    const Numbers sequence(logits.begin() + first * experts_,
                           logits.begin() + (first + length) * experts_);
    const std::vector<int> its_ids(chosen.begin() + first * top_k_,
                                   chosen.begin() + (first + length) * top_k_);
    const Numbers d =
        test::finite_differences(sequence, [&](const Numbers& x) { return total(x, its_ids); });
    expected.insert(expected.end(), d.begin(), d.end());
  }
  // Where every expert is chosen the loss is constant: each logit's gradient is then the difference
  // of two equal FP32 terms, of which neither exceeds alpha * f / S with f <= E / K.
  const double term =
      gradient_scale * alpha * static_cast<double>(experts_) / static_cast<double>(top_k_ * length);
  test::expect_near(test::read(d_logits), expected, 2e-4, "gradient",
                    test::difference_noise(total(logits, chosen)) + test::unit(DType::f32) * term);
  // It adds.
  test::write(d_logits, Numbers(logits.size(), 1));
  balance_loss(ctx, logits_TE, ids, settings_, options, loss, d_logits);
  for (double& value : expected) value += 1;
  test::expect_near(test::read(d_logits), expected, 1e-6, "added gradient");
}

INSTANTIATE_TEST_SUITE_P(Settings, Router, ::testing::ValuesIn(kCases));

TEST(RouterOp, TiesGoToTheLowestIndex) {
  Context ctx(Device::cpu, 1);
  const RouteSettings settings{.top_k = 4, .n_group = 4, .topk_group = 2};
  const Tensor logits = test::tensor_of(ctx, {1, 32}, DType::f32, Numbers(32, 0.5));
  const Tensor bias = test::tensor_of(ctx, {32}, DType::f32, Numbers(32, -3));
  Tensor ids = ctx.empty({1, 4}, DType::i32, Purpose::activations);
  Tensor weights = ctx.empty({1, 4}, DType::f32, Purpose::activations);
  route(ctx, logits, bias, settings, ids, weights);
  EXPECT_EQ(test::read(ids), (Numbers{0, 1, 2, 3}));
  test::expect_near(test::read(weights), Numbers(4, 0.25), 1e-6, "weights");
}

TEST(RouterOp, LogitsThatAreNotFiniteStillGiveDifferentExperts) {
  for (double bad : {static_cast<double>(NAN), HUGE_VAL, -HUGE_VAL}) {
    for (Scoring scoring : {Scoring::sigmoid, Scoring::softmax}) {
      for (int64_t groups : {1, 4}) {
        Context ctx(Device::cpu, 1);
        const RouteSettings settings{.top_k = 6,
                                     .n_group = groups,
                                     .topk_group = groups / 2 + groups % 2,
                                     .scoring = scoring};
        Numbers logits = test::random_numbers(2 * 20, 3);
        for (size_t i = 0; i < 20; ++i) logits[i] = bad;
        logits[25] = bad;
        Tensor ids = ctx.empty({2, 6}, DType::i32, Purpose::activations);
        Tensor weights = ctx.empty({2, 6}, DType::f32, Purpose::activations);
        route(ctx, test::tensor_of(ctx, {2, 20}, DType::f32, logits),
              test::tensor_of(ctx, {20}, DType::f32, Numbers(20, -1)), settings, ids, weights);
        const Numbers got = test::read(ids);
        for (size_t t = 0; t < 2; ++t) {
          const std::set<double> distinct(got.begin() + static_cast<int64_t>(6 * t),
                                          got.begin() + static_cast<int64_t>(6 * t + 6));
          EXPECT_EQ(distinct.size(), 6u);
          EXPECT_GE(*distinct.begin(), 0);
          EXPECT_LT(*distinct.rbegin(), 20);
        }
      }
    }
  }
}

TEST(RouterOp, BitsDependNeitherOnThreadsNorOnOtherRows) {
  const int64_t tokens = 600, experts = 64, top_k = 8;
  const RouteSettings settings{.top_k = top_k, .n_group = 8, .topk_group = 4};
  const Numbers logits = test::random_numbers(tokens * experts, 4),
                bias = test::random_numbers(experts, 5, 0.1);
  const Numbers d_weights = test::random_numbers(tokens * top_k, 6);
  std::vector<Numbers> first;
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    const Tensor x = test::tensor_of(ctx, {tokens, experts}, DType::f32, logits);
    const Tensor b = test::tensor_of(ctx, {experts}, DType::f32, bias);
    const Tensor dw = test::tensor_of(ctx, {tokens, top_k}, DType::f32, d_weights);
    Tensor ids = ctx.empty({tokens, top_k}, DType::i32, Purpose::activations);
    Tensor weights = ctx.empty({tokens, top_k}, DType::f32, Purpose::activations);
    Tensor d = ctx.empty({tokens, experts}, DType::f32, Purpose::activations);
    Tensor loss = ctx.empty({2}, DType::f32, Purpose::activations);
    Tensor counts = ctx.zeros({experts}, DType::i64, Purpose::activations);
    route(ctx, x, b, settings, ids, weights);
    route_backward(ctx, dw, x, ids, settings, d);
    balance_loss(ctx, x, ids, settings, {.sequence_tokens = 300, .alpha = 0.1}, loss, d);
    count_experts(ctx, ids, Accumulate::yes, counts);
    const std::vector<Numbers> all{test::read(ids), test::read(weights), test::read(d),
                                   test::read(loss), test::read(counts)};
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) test::expect_same_bits(all[i], first[i], "threads");
    Tensor one_ids = ctx.empty({1, top_k}, DType::i32, Purpose::activations);
    Tensor one = ctx.empty({1, top_k}, DType::f32, Purpose::activations);
    route(ctx, x.slice_rows(77, 1), b, settings, one_ids, one);
    test::expect_same_bits(test::read(one), test::read(weights.slice_rows(77, 1)), "one row");
  }
}

TEST(RouterOp, CountsExperts) {
  Context ctx(Device::cpu, 2);
  const Tensor ids = test::tensor_of(ctx, {3, 2}, DType::i32, {0, 2, 2, 4, 2, 0});
  Tensor counts = test::tensor_of(ctx, {5}, DType::i64, Numbers(5, 9));
  count_experts(ctx, ids, Accumulate::no, counts);
  EXPECT_EQ(test::read(counts), (Numbers{2, 0, 3, 0, 1}));
  count_experts(ctx, ids, Accumulate::yes, counts);
  EXPECT_EQ(test::read(counts), (Numbers{4, 0, 6, 0, 2}));
  Tensor few = ctx.zeros({4}, DType::i64, Purpose::activations);
  EXPECT_THROW(count_experts(ctx, ids, Accumulate::yes, few), InternalError);
}

TEST(RouterOp, NoTokensMetaAndErrors) {
  Context ctx(Device::cpu, 2), meta(Device::meta, 1);
  const RouteSettings settings{.top_k = 2, .n_group = 2, .topk_group = 1};
  for (Context* c : {&ctx, &meta}) {
    const int64_t tokens = c == &ctx ? 0 : 4;
    const Tensor logits = c->empty({tokens, 8}, DType::f32, Purpose::activations);
    const Tensor bias = c->empty({8}, DType::f32, Purpose::weights);
    Tensor ids = c->empty({tokens, 2}, DType::i32, Purpose::activations), none;
    Tensor weights = c->empty({tokens, 2}, DType::f32, Purpose::activations);
    Tensor d = c->empty({tokens, 8}, DType::f32, Purpose::activations);
    Tensor loss = c->empty({tokens / 2}, DType::f32, Purpose::activations);
    route(*c, logits, bias, settings, ids, weights);
    route_backward(*c, weights, logits, ids, settings, d);
    balance_loss(*c, logits, ids, settings, {.sequence_tokens = 2, .alpha = 1}, loss, d);
    EXPECT_THROW(route(*c, logits, none, settings, ids, weights), InternalError);
    for (const RouteSettings& wrong :
         {RouteSettings{.top_k = 2, .n_group = 3},
          RouteSettings{.top_k = 2, .n_group = 8, .topk_group = 2},
          RouteSettings{.top_k = 5, .n_group = 2, .topk_group = 1}, RouteSettings{.top_k = 0},
          RouteSettings{.top_k = 2, .n_group = 2, .topk_group = 3}})
      EXPECT_THROW(route(*c, logits, bias, wrong, ids, weights), InternalError);
    if (tokens > 0) {
      EXPECT_THROW(balance_loss(*c, logits, ids, settings, {.sequence_tokens = 3}, loss, d),
                   InternalError);
    }
  }
  EXPECT_GT(meta.spent().flops, 0);
}

}  // namespace
}  // namespace strait
