#include "core/ops/router.h"

#include <vector>

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/column_sums.h"
#include "core/ops/cpu/kernels/router.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

using Method = RouteSettings::Method;

void check_settings(const char* op, const RouteSettings& settings, int64_t num_experts) {
  const bool grouped = settings.method != Method::greedy;
  const int64_t n_group = grouped ? settings.n_group : 1;
  const int64_t topk_group = grouped ? settings.topk_group : 1;
  const auto text = [&] {
    return std::to_string(num_experts) + " experts, top_k " + std::to_string(settings.top_k) +
           ", n_group " + std::to_string(settings.n_group) + ", topk_group " +
           std::to_string(settings.topk_group);
  };
  if (n_group < 1 || num_experts % n_group != 0)
    throw_operand(op, "groups do not divide the experts: " + text());
  if (topk_group < 1 || topk_group > n_group)
    throw_operand(op, "topk_group is outside 1 to n_group: " + text());
  if (settings.top_k < 1 || settings.top_k > num_experts / n_group * topk_group)
    throw_operand(op, "top_k is outside 1 to the experts of topk_group groups: " + text());
  if (settings.method == Method::noaux_tc && n_group > 1 && num_experts / n_group < 2)
    throw_operand(op, "noaux_tc needs two experts in a group: " + text());
}

// Checks what all of the router's ops share, and gives the kernels' view of it.
cpu::Router describe(const char* op, const Tensor& logits_TE, const Tensor& ids_TK,
                     const RouteSettings& settings) {
  check_matrix(op, "logits", logits_TE, kAnySize, kAnySize, {DType::f32});
  check_settings(op, settings, logits_TE.cols());
  check_matrix(op, "ids", ids_TK, logits_TE.rows(), settings.top_k, {DType::i32});
  check_flat(op, "ids", ids_TK, kAnySize, {DType::i32});
  const bool grouped = settings.method != Method::greedy;
  cpu::Router args;
  args.num_experts = logits_TE.cols();
  args.top_k = settings.top_k;
  args.softmax = settings.scoring == RouteSettings::Scoring::softmax;
  args.norm_topk_prob = settings.norm_topk_prob;
  args.factor = static_cast<float>(settings.routed_scaling_factor);
  args.num_groups = grouped ? settings.n_group : 1;
  args.topk_group = grouped ? settings.topk_group : 1;
  args.sum_of_two = settings.method == Method::noaux_tc;
  return args;
}

void check_ids(const char* op, const Tensor& ids, int64_t num_experts) {
  for (int32_t id : ids.span<int32_t>()) {
    if (id < 0 || id >= num_experts)
      throw_operand(op, "id " + std::to_string(id) + " is outside " + std::to_string(num_experts) +
                            " experts");
  }
}

std::vector<float> scratch_of(const cpu::Router& args) {
  return std::vector<float>(static_cast<size_t>(2 * args.num_experts + args.num_groups));
}

double numel_of(const Tensor& tensor) { return static_cast<double>(tensor.numel()); }

}  // namespace

void route(Context& ctx, const Tensor& logits_TE, const Tensor& bias_E,
           const RouteSettings& settings, Tensor& ids_TK, Tensor& weights_TK) {
  const char* op = "route";
  cpu::Router args = describe(op, logits_TE, ids_TK, settings);
  check_flat(op, "weights", weights_TK, ids_TK.numel(), {DType::f32});
  if (bias_E.defined() != (settings.method == Method::noaux_tc))
    throw_operand(op, "bias: expected with method noaux_tc only");
  if (bias_E.defined()) check_flat(op, "bias", bias_E, args.num_experts, {DType::f32});
  const Cost cost{.flops = 4.0 * numel_of(logits_TE),
                  .bytes = 4.0 * numel_of(logits_TE) + 8.0 * numel_of(ids_TK)};
  ctx.run(cost, [&] {
    args.logits = cpu::rows_of(logits_TE);
    args.bias = bias_E.defined() ? bias_E.data<float>() : nullptr;
    args.ids = ids_TK.data<int32_t>();
    args.weights = weights_TK.data<float>();
    const auto kernel = STRAIT_CPU_KERNEL(route);
    ctx.pool().parallel_for(
        logits_TE.rows(), cpu::row_grain(16 * args.num_experts),
        [&](int64_t begin, int64_t end) { kernel(args, begin, end, scratch_of(args).data()); });
  });
}

void route_backward(Context& ctx, const Tensor& d_weights_TK, const Tensor& logits_TE,
                    const Tensor& ids_TK, const RouteSettings& settings, Tensor& d_logits_TE) {
  const char* op = "route_backward";
  cpu::Router args = describe(op, logits_TE, ids_TK, settings);
  check_flat(op, "d_weights", d_weights_TK, ids_TK.numel(), {DType::f32});
  check_matrix(op, "d_logits", d_logits_TE, logits_TE.rows(), args.num_experts, {DType::f32});
  const Cost cost{.flops = 6.0 * numel_of(logits_TE),
                  .bytes = 8.0 * numel_of(logits_TE) + 8.0 * numel_of(ids_TK)};
  ctx.run(cost, [&] {
    check_ids(op, ids_TK, args.num_experts);
    args.logits = cpu::rows_of(logits_TE);
    args.d_logits = cpu::rows_of(d_logits_TE);
    args.ids = ids_TK.data<int32_t>();
    args.d_weights = d_weights_TK.data<float>();
    const auto kernel = STRAIT_CPU_KERNEL(route_backward);
    ctx.pool().parallel_for(
        logits_TE.rows(), cpu::row_grain(4 * args.num_experts),
        [&](int64_t begin, int64_t end) { kernel(args, begin, end, scratch_of(args).data()); });
  });
}

namespace {

// sums_E += what each expert's normalised scores add up to over the sequence's rows from `first`
// on.
void sum_sequence(Context& ctx, const cpu::Router& args, int64_t first, int64_t count,
                  Tensor& partial) {
  const int64_t chunks = partial.rows(), experts = args.num_experts;
  float* sums = partial.data<float>();
  const auto kernel = STRAIT_CPU_KERNEL(sum_normalised_scores);
  ctx.pool().parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t row = first + chunk * kTokensPerPartialSum;
      kernel(args, row, std::min(first + count, row + kTokensPerPartialSum), sums + chunk * experts,
             scratch_of(args).data());
    }
  });
  STRAIT_CPU_KERNEL(column_sums)(sums, chunks, experts, 0, experts);
}

}  // namespace

void balance_loss(Context& ctx, const Tensor& logits_TE, const Tensor& ids_TK,
                  const RouteSettings& settings, const BalanceLoss& loss, Tensor& loss_B,
                  Tensor& d_logits_TE) {
  const char* op = "balance_loss";
  cpu::Router args = describe(op, logits_TE, ids_TK, settings);
  const int64_t tokens = logits_TE.rows(), experts = args.num_experts,
                length = loss.sequence_tokens;
  if (length < 1 || tokens % length != 0)
    throw_operand(op, "sequences of " + std::to_string(length) + " tokens do not divide " +
                          std::to_string(tokens) + " tokens");
  const int64_t sequences = tokens / length;
  if (loss_B.defined()) check_flat(op, "loss", loss_B, sequences, {DType::f32});
  if (d_logits_TE.defined())
    check_matrix(op, "d_logits", d_logits_TE, tokens, experts, {DType::f32});
  Tensor partial = ctx.empty({(length + kTokensPerPartialSum - 1) / kTokensPerPartialSum, experts},
                             DType::f32, Purpose::workspace);
  const Cost cost{
      .flops = (d_logits_TE.defined() ? 14.0 : 4.0) * numel_of(logits_TE),
      .bytes = (d_logits_TE.defined() ? 12.0 : 4.0) * numel_of(logits_TE) + 4.0 * numel_of(ids_TK)};
  ctx.run(cost, [&] {
    check_ids(op, ids_TK, experts);
    args.logits = cpu::rows_of(logits_TE);
    args.d_logits = cpu::rows_of(d_logits_TE);
    const int32_t* ids = ids_TK.data<int32_t>();
    std::vector<double> counts(static_cast<size_t>(experts));
    std::vector<float> factors(static_cast<size_t>(experts));
    for (int64_t b = 0; b < sequences; ++b) {
      sum_sequence(ctx, args, b * length, length, partial);
      counts.assign(counts.size(), 0);
      for (int64_t i = b * length * args.top_k; i < (b + 1) * length * args.top_k; ++i)
        counts[static_cast<size_t>(ids[i])] += 1;
      const float* sums = partial.data<float>();
      const double tokens_b = static_cast<double>(length);
      double total = 0;
      for (size_t i = 0; i < counts.size(); ++i) {
        const double f =
            counts[i] * static_cast<double>(experts) / (static_cast<double>(args.top_k) * tokens_b);
        total += f * (static_cast<double>(sums[i]) / tokens_b);
        factors[i] = static_cast<float>(loss.gradient_scale * loss.alpha * f / tokens_b);
      }
      if (loss_B.defined()) loss_B.data<float>()[b] = static_cast<float>(loss.alpha * total);
      if (!d_logits_TE.defined()) continue;
      const auto kernel = STRAIT_CPU_KERNEL(add_balance_gradient);
      ctx.pool().parallel_for(length, cpu::row_grain(4 * experts), [&](int64_t begin, int64_t end) {
        kernel(args, factors.data(), b * length + begin, b * length + end, scratch_of(args).data());
      });
    }
  });
}

void count_experts(Context& ctx, const Tensor& ids_TK, Accumulate accumulate, Tensor& counts_E) {
  const char* op = "count_experts";
  check_flat(op, "ids", ids_TK, kAnySize, {DType::i32});
  check_flat(op, "counts", counts_E, kAnySize, {DType::i64});
  ctx.run({.bytes = static_cast<double>(ids_TK.bytes() + counts_E.bytes())}, [&] {
    check_ids(op, ids_TK, counts_E.numel());
    const std::span<int64_t> counts = counts_E.span<int64_t>();
    if (accumulate == Accumulate::no) std::fill(counts.begin(), counts.end(), 0);
    for (int32_t id : ids_TK.span<int32_t>()) ++counts[static_cast<size_t>(id)];
  });
}

}  // namespace strait
