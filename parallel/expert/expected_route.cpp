#include "parallel/expert/expected_route.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/scramble.h"

namespace strait {
namespace {

constexpr int64_t kTokens = 2048;

// The chance that a part's experts are all missed is a product of ratios.
double expected_without_groups(int64_t num_experts, int64_t top_k, int64_t num_parts) {
  const int64_t elsewhere = num_experts - num_experts / num_parts;
  double missed = 1;
  for (int64_t k = 0; k < top_k; ++k)
    missed *= std::max(0.0, double(elsewhere - k) / double(num_experts - k));
  return double(num_parts) * (1 - missed);
}

}  // namespace

double expected_parts(const RouteSettings& settings, int64_t num_experts, int64_t num_parts) {
  STRAIT_CHECK(num_parts >= 1 && num_experts % num_parts == 0);
  if (num_parts == 1) return 1;
  const bool grouped =
      settings.method != RouteSettings::Method::greedy && settings.topk_group < settings.n_group;
  if (!grouped) return expected_without_groups(num_experts, settings.top_k, num_parts);

  Context ctx(Device::cpu, 1);
  const auto empty = [&](Shape shape, DType dtype) {
    return ctx.empty(shape, dtype, Purpose::workspace);
  };
  const Tensor logits = empty({kTokens, num_experts}, DType::f32);
  uint64_t counter = 0;
  for (float& logit : logits.span<float>()) {
    const double score = (double(splitmix(++counter) >> 11) + 0.5) * 0x1p-53;  // even in (0, 1)
    logit = float(std::log(score / (1 - score)));
  }
  Tensor ids = empty({kTokens, settings.top_k}, DType::i32);
  Tensor weights = empty({kTokens, settings.top_k}, DType::f32);
  const bool biased = settings.method == RouteSettings::Method::noaux_tc;
  route(ctx, logits, biased ? ctx.zeros({num_experts}, DType::f32, Purpose::workspace) : Tensor{},
        settings, ids, weights);
  int64_t parts = 0;
  const auto experts = ids.span<int32_t>();
  for (auto token = experts.begin(); token != experts.end(); token += settings.top_k) {
    std::set<int64_t> of_token;
    for (auto expert = token; expert != token + settings.top_k; ++expert)
      of_token.insert(*expert / (num_experts / num_parts));
    parts += int64_t(of_token.size());
  }
  return double(parts) / double(kTokens);
}

}  // namespace strait
