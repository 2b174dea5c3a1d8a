#include "parallel/expert/expert_exchange.h"

#include <algorithm>
#include <utility>

#include "core/ops/elementwise.h"
#include "parallel/comm/all_reduce.h"

namespace strait {
namespace {

constexpr const char* kGradient = "the gradient of the output of ";

// Each token's choices by expert, of the experts that `parts` has, and where among the token's each
// stood.
struct Choices {
  RowPairs pairs;
  std::vector<int32_t> slots;  // token * K + k
};

Choices choices_of(const int32_t* ids, int64_t tokens, int64_t top_k, const ExpertParts& parts) {
  Choices choices;
  choices.slots.reserve(static_cast<size_t>(tokens * top_k));
  choices.pairs.experts.reserve(static_cast<size_t>(tokens * top_k));
  for (int64_t token = 0; token < tokens; ++token) {
    const auto first = static_cast<std::ptrdiff_t>(choices.slots.size());
    for (int64_t slot = token * top_k; slot < (token + 1) * top_k; ++slot)
      if (parts.has(ids[slot])) choices.slots.push_back(static_cast<int32_t>(slot));
    std::sort(choices.slots.begin() + first, choices.slots.end(),
              [ids](int32_t a, int32_t b) { return ids[a] < ids[b]; });
    for (auto slot = choices.slots.begin() + first; slot != choices.slots.end(); ++slot)
      choices.pairs.experts.push_back(ids[*slot]);
    choices.pairs.row_offsets.push_back(static_cast<int32_t>(choices.pairs.num_pairs()));
  }
  return choices;
}

// Rows that must cross if each token's crosses once to each node but `node` that holds one of its
// experts.
int64_t rows_to_other_nodes(const int32_t* ids, int64_t tokens, int64_t top_k,
                            int64_t experts_per_node, int64_t num_nodes, int64_t node) {
  int64_t rows = 0;
  std::vector<int64_t> last_token(static_cast<size_t>(num_nodes), -1);
  for (int64_t slot = 0; slot < tokens * top_k; ++slot) {
    const int64_t token = slot / top_k, at = ids[slot] / experts_per_node;
    if (at == node || last_token[static_cast<size_t>(at)] == token) continue;
    last_token[static_cast<size_t>(at)] = token;
    ++rows;
  }
  return rows;
}

}  // namespace

ExpertExchange::ExpertExchange(const ExchangeSettings& settings, std::shared_ptr<Value> x,
                               const Tensor& ids, const Tensor& weights)
    : settings_(settings),
      num_ranks_(settings.links.num_ranks),
      x_(std::move(x)),
      tokens_(ids.rows()),
      top_k_(ids.cols()) {
  hidden_ = x_->get().cols();
  if (settings_.ctx->device() == Device::meta) {
    expect_route();
  } else {
    plan_route(ids.data<int32_t>(), weights.data<float>());
  }
  if (num_ranks_ == 1) return;
  pack_rows(x_->get());
  if (!settings_.may_forget) x_.reset();
}

ExpertExchange::~ExpertExchange() = default;

void ExpertExchange::expect_route() {
  Context& ctx = *settings_.ctx;
  const RoutedRows alone{.rows = tokens_, .rows_here = tokens_, .pairs_here = tokens_ * top_k_};
  const RoutedRows& expected = num_ranks_ == 1 ? alone : settings_.expected;
  const auto of_wave = [this](int64_t all) {
    return all * (settings_.wave + 1) / settings_.num_waves -
           all * settings_.wave / settings_.num_waves;
  };
  num_rows_ = of_wave(expected.rows);
  num_pairs_ = of_wave(tokens_ * top_k_);
  rows_here_ = of_wave(expected.rows_here);
  pairs_here_ = of_wave(expected.pairs_here);
  const auto ints = [&](int64_t count) { return ctx.empty({count}, DType::i32, Purpose::routed); };
  token_of_row_ = ints(num_rows_);
  rows_of_token_ = {
      .offsets = ints(tokens_ + 1), .experts = ints(num_rows_), .rows = ints(num_rows_)};
}

void ExpertExchange::plan_route(const int32_t* ids, const float* weights) {
  Context& ctx = *settings_.ctx;
  const ExpertLinks& links = settings_.links;
  const ExpertParts parts =
      first_parts(links, settings_.num_experts, settings_.wave, settings_.num_waves);
  const Choices choices = choices_of(ids, tokens_, top_k_, parts);
  if (settings_.wave == 0)
    remote_rows_ =
        rows_to_other_nodes(ids, tokens_, top_k_, settings_.num_experts / links.num_nodes(),
                            links.num_nodes(), links.node_index());
  RowPlan made = plan_rows(choices.pairs, equal_stretches(tokens_, links.chunks), parts);
  num_rows_ = made.num_rows();
  num_pairs_ = made.num_pairs();
  for (const int32_t pair : made.source_pair) {
    const int32_t slot = choices.slots[static_cast<size_t>(pair)];
    pair_slots_.push_back(slot);
    pair_weights_.push_back(weights[slot]);
  }
  const auto ints = [&](const std::vector<int32_t>& values) {
    return tensor_of(ctx, std::span<const int32_t>(values), Purpose::routed);
  };
  token_of_row_ = ints(made.source_row);
  rows_of_token_ = {.offsets = ints(made.sum_offsets),
                    .experts = ints(made.sum_experts),
                    .rows = ints(made.sum_rows)};
  if (num_ranks_ == 1) {
    plan_ = std::move(made);
  } else if (links.two_tier) {
    path_ =
        std::make_unique<RowPath>(ctx, std::move(made), *links.rail, &*links.node, links.chunks);
  } else {
    path_ = std::make_unique<RowPath>(ctx, std::move(made), *links.ranks, nullptr, 1);
  }
}

void ExpertExchange::pack_rows(const Tensor& x) {
  Context& ctx = *settings_.ctx;
  if (settings_.fp8) {
    send_ = wire_rows(num_rows_, settings_.compute, true, Purpose::communication);
    pack_fp8_wire(ctx, *x_->fp8_rows(ctx, Purpose::activations), token_of_row_, send_);
    require_finite(ctx, "the input of ", settings_.name);
  } else {
    send_ = packed_rows(ctx, x, settings_.compute, kActivationScales);
  }
  const int64_t words = num_rows_ + 2 * num_pairs_;
  send_scalars_ = ctx.empty({words}, DType::i32, Purpose::communication);
  ctx.run({.flops = 0, .bytes = 4.0 * static_cast<double>(words)},
          [&] { path_->first().pack_route(pair_weights_, send_scalars_); });
  pair_weights_ = {};
}

Tensor ExpertExchange::wire_rows(int64_t rows, DType dtype, bool fp8, Purpose purpose) const {
  return settings_.ctx->empty({rows, fp8 ? fp8_wire_words(hidden_) : hidden_},
                              fp8 ? DType::f32 : dtype, purpose);
}

Tensor ExpertExchange::packed_rows(Context& ctx, const Tensor& x, DType dtype,
                                   const QuantizeSettings& scales) {
  Tensor wire = wire_rows(num_rows_, dtype, settings_.fp8, Purpose::communication);
  if (settings_.fp8)
    pack_fp8_wire(ctx, fp8_rows_of(ctx, x, scales, Purpose::workspace), token_of_row_, wire);
  else
    gather_rows(ctx, x, token_of_row_, wire);
  return wire;
}

Tensor ExpertExchange::unpacked_rows(Context& ctx, Tensor wire, bool fp8) const {
  if (!fp8) return wire;
  Tensor rows = ctx.empty({wire.rows(), hidden_}, settings_.combine_wire, Purpose::communication);
  unpack_fp8_wire(ctx, wire, rows);
  return rows;
}

void ExpertExchange::count_floor(const Tensor& rows) {
  *settings_.links.floor_bytes +=
      remote_rows_ * rows.cols() * static_cast<int64_t>(size_of(rows.dtype()));
}

void ExpertExchange::expect_relay(const Tensor& like) {
  if (!settings_.links.two_tier) return;
  const auto rows = [&](int64_t count) {
    return settings_.ctx->empty({count, like.cols()}, like.dtype(), Purpose::communication);
  };
  const Tensor whole = rows(num_rows_);
  if (!recv_is_fp8_sums_) {
    const Tensor parted = rows(rows_here_);
  } else {
    const Tensor parted =
                     wire_rows(rows_here_, settings_.combine_wire, false, Purpose::communication),
                 sums = wire_rows(num_rows_, settings_.combine_wire, false, Purpose::communication);
  }
}

OperationPtr ExpertExchange::dispatch() {
  if (num_ranks_ == 1) return nullptr;
  if (path_) {
    count_floor(send_);
    return path_->dispatch(send_scalars_, send_, recv_);
  }
  Context& ctx = *settings_.ctx;
  recv_scalars_ = ctx.empty({rows_here_ + 2 * pairs_here_}, DType::i32, Purpose::communication);
  recv_ = wire_rows(rows_here_, settings_.compute, settings_.fp8, Purpose::routed);
  expect_relay(recv_);
  return nullptr;
}

ExpertBatch ExpertExchange::arrived() {
  Context& ctx = *settings_.ctx;
  const int64_t experts_here = settings_.num_experts / num_ranks_;
  const ExpertSlots mine{.range = experts_of_wave(settings_.links, settings_.num_experts,
                                                  settings_.wave, settings_.num_waves),
                         .before = experts_here / settings_.num_waves * settings_.wave,
                         .count = experts_here};
  send_ = send_scalars_ = recv_scalars_ = {};
  if (ctx.device() == Device::meta) {
    sorted_ = expected_pairs(ctx, rows_here_, pairs_here_, mine);
  } else {
    const RowPairs& pairs = path_ ? path_->arrived_pairs() : plan_.pairs;
    rows_here_ = pairs.num_rows();
    pairs_here_ = pairs.num_pairs();
    sorted_ = sort_pairs(
        ctx, pairs, path_ ? path_->source_order() : std::vector<RowRange>{{0, rows_here_}}, mine);
  }
  return batch_of(num_ranks_ == 1 ? own_rows() : arrived_rows(recv_));
}

// On one rank: x, as the experts of other ranks would see it.
std::shared_ptr<Value> ExpertExchange::own_rows() {
  if (!settings_.fp8) return x_;
  Context& ctx = *settings_.ctx;
  const Fp8Matrix& codes = *x_->fp8_rows(ctx, Purpose::activations);
  require_finite(ctx, "the input of ", settings_.name);
  return value_of_codes(codes);
}

std::shared_ptr<Value> ExpertExchange::value_of_codes(const Fp8Matrix& codes) const {
  return std::make_shared<Value>(codes, [&ctx = *settings_.ctx, codes, dtype = settings_.compute] {
    Tensor rows = ctx.empty({codes.codes_RC.rows(), codes.codes_RC.cols()}, dtype, Purpose::routed);
    dequantize(ctx, codes, rows);
    return rows;
  });
}

std::shared_ptr<Value> ExpertExchange::arrived_rows(Tensor& wire) const {
  const Tensor arrived = std::exchange(wire, {});
  if (!settings_.fp8) return std::make_shared<Value>(arrived);
  Context& ctx = *settings_.ctx;
  Fp8Matrix codes =
      empty_fp8(ctx, arrived.rows(), hidden_, ScaleLayout::rows_1x128, Purpose::routed);
  unpack_fp8_wire(ctx, arrived, codes);
  return value_of_codes(codes);
}

ExpertBatch ExpertExchange::batch_of(std::shared_ptr<Value> rows) {
  Context& ctx = *settings_.ctx;
  const std::vector<float>& weights = path_ ? path_->arrived_weights() : pair_weights_;
  Tensor sorted_weights = ctx.empty({pairs_here_}, DType::f32, Purpose::routed);
  ctx.run({.flops = 0, .bytes = 8.0 * static_cast<double>(pairs_here_)}, [&] {
    const int32_t* arrival = sorted_.arrival_of_pair.data<int32_t>();
    for (int64_t pair = 0; pair < pairs_here_; ++pair)
      sorted_weights.data<float>()[pair] = weights[static_cast<size_t>(arrival[pair])];
  });
  const bool rows_are_x = rows == x_;
  return {.rows = std::move(rows),
          .rows_are_x = rows_are_x,
          .pair_weights = sorted_weights,
          .offsets = sorted_.offsets,
          .pairs = sorted_.map};
}

void ExpertExchange::forget() {
  STRAIT_CHECK(settings_.may_forget, "[exchange] rows are to be kept");
  forgotten_ = true;
  sends_again_ = {1};
}

ExpertBatch ExpertExchange::arrived_again() {
  return batch_of(num_ranks_ == 1 ? own_rows() : arrived_rows(recv_again_));
}

OperationPtr ExpertExchange::agree_on_sending_again() {
  if (!settings_.may_forget) return nullptr;
  return all_reduce_max(*settings_.links.ranks, std::span<int64_t>(sends_again_));
}

DType ExpertExchange::sums_dtype() const {
  return num_ranks_ == 1 ? DType::f32 : settings_.combine_wire;
}

RoutedRows ExpertExchange::load() const {
  return {.rows = num_rows_, .rows_here = rows_here_, .pairs_here = pairs_here_};
}

void ExpertExchange::pack_sums(const Tensor& sums_UH) {
  (num_ranks_ == 1 ? recv_ : send_) = sums_UH;
  if (num_ranks_ == 1 || !settings_.fp8_sums || settings_.links.two_tier) return;
  send_ = wire_rows(rows_here_, settings_.combine_wire, true, Purpose::communication);
  encode_fp8_wire(*settings_.ctx, sums_UH, kActivationScales, send_);
  require_finite(*settings_.ctx, "the output of ", settings_.name);
}

OperationPtr ExpertExchange::combine() {
  if (num_ranks_ == 1) return nullptr;
  recv_is_fp8_sums_ = settings_.fp8_sums;
  recv_ = wire_rows(num_rows_, settings_.combine_wire, settings_.fp8_sums, Purpose::communication);
  if (path_) {
    count_floor(recv_);
    std::vector<Step> steps;
    steps.push_back([this] { return agree_on_sending_again(); });
    steps.push_back([this] { return path_->return_sums(send_, recv_); });
    steps.push_back([this]() -> OperationPtr {
      if (sends_again_[0] != 0) x_again_ = x_->get();  // before attention's end drops it
      return nullptr;
    });
    return sequence(std::move(steps));
  }
  expect_relay(recv_);
  return nullptr;
}

void ExpertExchange::add_sums(Context& ctx, Tensor& hidden_TH) {
  if (num_ranks_ == 1) {
    add(ctx, recv_, hidden_TH);
  } else {
    tree_sum(ctx, unpacked_rows(ctx, std::exchange(recv_, {}), recv_is_fp8_sums_), rows_of_token_,
             {0, settings_.num_experts}, Accumulate::yes, hidden_TH);
  }
  send_ = recv_ = {};
}

void ExpertExchange::pack_gradient(Context& ctx, const Tensor& d_hidden_TH) {
  if (num_ranks_ == 1) {
    recv_ = d_hidden_TH;
    if (settings_.fp8) {
      recv_ = ctx.empty({tokens_, hidden_}, settings_.combine_wire, Purpose::communication);
      dequantize(ctx, fp8_rows_of(ctx, d_hidden_TH, kGradientScales, Purpose::workspace), recv_);
      require_finite(ctx, kGradient, settings_.name);
    }
    return;
  }
  send_ = packed_rows(ctx, d_hidden_TH, settings_.combine_wire, kGradientScales);
  require_finite(ctx, kGradient, settings_.name);
  if (sends_again_[0] != 0)
    send_again_ = packed_rows(ctx, x_again_, settings_.compute, kActivationScales);
}

OperationPtr ExpertExchange::combine_inverse() {
  if (num_ranks_ == 1) return nullptr;
  recv_is_fp8_sums_ = false;
  recv_ = wire_rows(rows_here_, settings_.combine_wire, settings_.fp8, Purpose::communication);
  if (path_) {
    count_floor(recv_);
    if (sends_again_[0] == 0) return path_->send(send_, recv_);
    recv_again_ = wire_rows(rows_here_, settings_.compute, settings_.fp8, Purpose::routed);
    std::vector<Step> steps;
    steps.push_back([this] { return path_->send(send_again_, recv_again_); });
    steps.push_back([this] { return path_->send(send_, recv_); });
    return sequence(std::move(steps));
  }
  expect_relay(recv_);
  return nullptr;
}

Tensor ExpertExchange::take_d_sums() {
  send_ = send_again_ = x_again_ = {};
  if (!forgotten_) recv_again_ = {};  // this rank has its rows
  if (num_ranks_ == 1) return std::exchange(recv_, {});
  return unpacked_rows(*settings_.ctx, std::exchange(recv_, {}), settings_.fp8);
}

void ExpertExchange::pack_expert_gradients(const ExpertsGradient& gradients) {
  Context& ctx = *settings_.ctx;
  // Weight gradients go back in the order the pairs arrived in.
  send_scalars_ = ctx.empty({pairs_here_}, DType::f32, Purpose::communication);
  ctx.run({.flops = 0, .bytes = 8.0 * static_cast<double>(pairs_here_)}, [&] {
    const int32_t* arrival = sorted_.arrival_of_pair.data<int32_t>();
    const float* sorted = gradients.d_pair_weights.data<float>();
    for (int64_t pair = 0; pair < pairs_here_; ++pair)
      send_scalars_.data<float>()[arrival[pair]] = sorted[pair];
  });
  if (num_ranks_ == 1 || settings_.combine_wire == DType::f32) {
    send_ = gradients.d_rows;
  } else {
    send_ = ctx.empty({rows_here_, hidden_}, settings_.combine_wire, Purpose::communication);
    cast(ctx, gradients.d_rows, send_);
  }
}

OperationPtr ExpertExchange::dispatch_inverse() {
  if (num_ranks_ == 1) return nullptr;
  Context& ctx = *settings_.ctx;
  recv_scalars_ = ctx.empty({num_pairs_}, DType::f32, Purpose::communication);
  recv_ = ctx.empty({num_rows_, hidden_}, settings_.combine_wire, Purpose::communication);
  if (path_) {
    count_floor(recv_);
    std::vector<Step> steps;
    steps.push_back([this] { return path_->return_pairs(send_scalars_, recv_scalars_); });
    steps.push_back([this] { return path_->return_sums(send_, recv_); });
    return sequence(std::move(steps));
  }
  expect_relay(recv_);
  return nullptr;
}

ExpertExchange::Gradients ExpertExchange::take_gradients() {
  Context& ctx = *settings_.ctx;
  Gradients result;
  result.d_weights = ctx.empty({tokens_, top_k_}, DType::f32, Purpose::activations);
  take_weight_gradients(result.d_weights);
  if (num_ranks_ == 1) {
    result.d_x = send_;
  } else {
    result.d_x = ctx.empty({tokens_, hidden_}, DType::f32, Purpose::activations);
    tree_sum(ctx, recv_, rows_of_token_, {0, settings_.num_experts}, Accumulate::no, result.d_x);
  }
  send_ = recv_ = {};
  return result;
}

void ExpertExchange::take_weight_gradients(Tensor& d_weights_TK) {
  const Tensor scalars = num_ranks_ == 1 ? send_scalars_ : recv_scalars_;
  settings_.ctx->run({.flops = 0, .bytes = 8.0 * static_cast<double>(num_pairs_)}, [&] {
    // Every (token, k) was sent exactly once.
    for (int64_t pair = 0; pair < num_pairs_; ++pair)
      d_weights_TK.data<float>()[pair_slots_[static_cast<size_t>(pair)]] =
          scalars.data<float>()[pair];
  });
  send_scalars_ = recv_scalars_ = {};
  x_ = nullptr;  // the last one to read it
}

ExpertExchange::Returned ExpertExchange::take_returned(Context& ctx) {
  send_ = {};
  return {.rows = unpacked_rows(ctx, std::exchange(recv_, {}), recv_is_fp8_sums_),
          .entries = rows_of_token_};
}

}  // namespace strait
