// The router and the loss as kernels.
#include <random>

#include "core/ops/cross_entropy.h"
#include "core/ops/cuda/cross_entropy.h"
#include "core/ops/cuda/router.h"
#include "core/ops/router.h"
#include "tests/gpu/kernel_test.h"

namespace strait::cuda {
namespace {

struct Case {
  int64_t tokens, experts;
  RouteSettings settings;
};
using Scoring = RouteSettings::Scoring;
using Method = RouteSettings::Method;

RouterShape shape_of(const Case& c) {
  const bool grouped = c.settings.method != Method::greedy;
  return {c.tokens,
          static_cast<int>(c.experts),
          static_cast<int>(c.settings.top_k),
          grouped ? static_cast<int>(c.settings.n_group) : 1,
          grouped ? static_cast<int>(c.settings.topk_group) : 1,
          c.settings.scoring == Scoring::softmax,
          c.settings.method == Method::noaux_tc,
          c.settings.norm_topk_prob,
          static_cast<float>(c.settings.routed_scaling_factor)};
}

const Case kCases[] = {
    {5, 1, {}},
    {33, 6, {.top_k = 2, .scoring = Scoring::softmax, .method = Method::greedy}},
    {12,
     64,
     {.top_k = 6,
      .n_group = 8,
      .topk_group = 3,
      .scoring = Scoring::softmax,
      .method = Method::group_limited_greedy,
      .norm_topk_prob = false,
      .routed_scaling_factor = 16}},
    {40, 256, {.top_k = 8, .n_group = 8, .topk_group = 4, .routed_scaling_factor = 2.5}},
    {7, 100, {.top_k = 5, .method = Method::greedy}},
    {3, 1024, {.top_k = 8, .n_group = 128, .topk_group = 4}},
};

class Router : public KernelTest, public ::testing::WithParamInterface<Case> {};
INSTANTIATE_TEST_SUITE_P(Settings, Router, ::testing::ValuesIn(kCases), [](const auto& info) {
  return std::to_string(info.param.experts) + "experts";
});

// Of few different values, so that experts tie; and of a few tokens not finite.
test::Numbers logits_with_ties(int64_t tokens, int64_t experts) {
  std::mt19937 engine(1);
  test::Numbers numbers(static_cast<size_t>(tokens * experts));
  for (double& number : numbers) number = (static_cast<double>(engine() % 9) - 4) / 2;
  numbers[0] = NAN;
  if (tokens > 2) {
    for (int64_t e = 0; e < experts; e++) {
      numbers[static_cast<size_t>(experts + e)] = NAN;
      numbers[static_cast<size_t>(2 * experts + e)] = e % 2 == 0 ? INFINITY : -INFINITY;
    }
  }
  return numbers;
}

TEST_P(Router, ChoosesAndWeighsAsTheCpu) {
  const auto& [tokens, experts, settings] = GetParam();
  const int64_t k = settings.top_k;
  const Twin bias(ctx_, 1, experts, DType::f32, 2, 0, 0.2);
  const bool biased = settings.method == Method::noaux_tc;
  for (const test::Numbers& numbers :
       {test::random_numbers(tokens * experts, 3, 2), logits_with_ties(tokens, experts)}) {
    for (bool zero_bias : {false, true}) {
      const Twin logits(ctx_, tokens, experts, DType::f32, numbers);
      const Twin zeros(ctx_, 1, experts, DType::f32, test::Numbers(static_cast<size_t>(experts)));
      const Twin& used = zero_bias ? zeros : bias;
      Twin ids(ctx_, tokens, k, DType::i32, test::Numbers(static_cast<size_t>(tokens * k), -5)),
          weights(ctx_, tokens, k, DType::f32, 4);
      strait::route(ctx_, logits.tensor, biased ? used.tensor.view({experts}) : Tensor(), settings,
                    ids.tensor, weights.tensor);
      route({shape_of(GetParam()), logits.data<float>(), biased ? used.data<float>() : nullptr,
             ids.data<int>(), weights.data<float>()},
            nullptr);
      ids.expect_same("ids");
      weights.expect_same("weights");
    }
  }
}

TEST_P(Router, GradientsAreThoseOfTheCpu) {
  const auto& [tokens, experts, settings] = GetParam();
  const int64_t k = settings.top_k;
  const Twin logits(ctx_, tokens, experts, DType::f32, 1, 0, 2),
      d_weights(ctx_, tokens, k, DType::f32, 2);
  Twin ids(ctx_, tokens, k, DType::i32, test::Numbers(static_cast<size_t>(tokens * k))),
      d_logits(ctx_, tokens, experts, DType::f32, 3);
  Tensor weights = ctx_.empty({tokens, k}, DType::f32, Purpose::activations);
  const Twin bias(ctx_, 1, experts, DType::f32, 4);
  strait::route(ctx_, logits.tensor,
                settings.method == Method::noaux_tc ? bias.tensor.view({experts}) : Tensor(),
                settings, ids.tensor, weights);
  ids.update();
  strait::route_backward(ctx_, d_weights.tensor, logits.tensor, ids.tensor, settings,
                         d_logits.tensor);
  route_backward({shape_of(GetParam()), d_weights.data<float>(), logits.data<float>(),
                  ids.data<int>(), d_logits.data<float>()},
                 nullptr);
  d_logits.expect_same("d_logits");
}

TEST_P(Router, BalanceLossIsThatOfTheCpu) {
  Case c = GetParam();
  const int64_t experts = c.experts, k = c.settings.top_k;
  for (int64_t length : {1, 128, 300}) {
    c.tokens = 2 * length;
    const Twin logits(ctx_, c.tokens, experts, DType::f32, 1);
    std::mt19937 engine(2);
    test::Numbers picks(static_cast<size_t>(c.tokens * k));
    for (double& id : picks) id = static_cast<double>(engine() % static_cast<unsigned>(experts));
    const Twin ids(ctx_, c.tokens, k, DType::i32, picks);
    Twin loss(ctx_, 1, 2, DType::f32, 3), d_logits(ctx_, c.tokens, experts, DType::f32, 4);
    Tensor loss_B = loss.tensor.view({2});
    const Buffer partial(2 * ((length + 127) / 128) * experts * 4), factors(2 * experts * 4);
    strait::balance_loss(ctx_, logits.tensor, ids.tensor, c.settings,
                         {.sequence_tokens = length, .alpha = 0.01, .gradient_scale = 0.3}, loss_B,
                         d_logits.tensor);
    balance_loss(
        {shape_of(c), logits.data<float>(), ids.data<int>(), length, 0.01, 0.3, loss.data<float>(),
         d_logits.data<float>(), partial.as<float>(), factors.as<float>()},
        nullptr);
    loss.expect_same("loss");
    d_logits.expect_same("d_logits");
  }
}

TEST_F(KernelTest, RouterRefusesWhatItCannotHold) {
  const auto refused = [](int experts, int top_k, int num_groups) {
    Route call;
    call.shape.tokens = 1;
    call.shape.experts = experts;
    call.shape.top_k = top_k;
    call.shape.num_groups = num_groups;
    EXPECT_THROW(route(call, nullptr), InternalError) << experts;
  };
  refused(kMaxRoutedExperts + 1, 1, 1);
  refused(8, 1, 3);
  refused(8, 5, 2);
}

TEST_F(KernelTest, CrossEntropy) {
  for (int64_t cols : {1, 50, 1024, 1030, 20000}) {
    for (int64_t gap : {0, 4}) {
      const test::Numbers numbers = test::random_numbers(4 * cols, 1, 5);
      Twin logits(ctx_, 4, cols, DType::f32, numbers, gap);
      const int64_t middle = cols / 2;
      const Twin targets(ctx_, 1, 4, DType::i32,
                         {0, -1, static_cast<double>(cols - 1), static_cast<double>(middle)});
      Twin nll(ctx_, 1, 4, DType::f32, 2);
      Tensor nll_C = nll.tensor.view({4});
      const Tensor targets_C = targets.tensor.view({4});
      const auto expect_near = [&](const char* what) {
        const std::vector<float> got = nll.device<float>();
        for (int64_t c = 0; c < 4; c++) {
          const float want = nll_C.data<float>()[c], next = std::nextafter(want, INFINITY);
          EXPECT_NEAR(got[static_cast<size_t>(c)], want, next - want) << what;
        }
      };
      strait::cross_entropy(ctx_, logits.tensor, targets_C, nll_C);
      CrossEntropy call{logits.data<float>(),
                        logits.rows().stride,
                        targets.data<int>(),
                        nll.data<float>(),
                        4,
                        cols,
                        false,
                        0};
      cross_entropy(call, nullptr);
      expect_near("loss");
      logits.expect_same("logits");
      strait::cross_entropy_with_gradient(ctx_, logits.tensor, targets_C, 0.125, nll_C);
      call.gradient = true;
      call.scale = 0.125;
      cross_entropy(call, nullptr);
      expect_near("loss with gradient");
      logits.expect_same("gradient");
    }
  }
}

}  // namespace
}  // namespace strait::cuda
