#include "parallel/expert/expert_exchange.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/ops/elementwise.h"
#include "parallel/comm/all_to_all.h"
#include "parallel/expert/pair_map.h"

namespace strait {

// Rows are ordered by destination rank, then by token; pairs by row, then by expert.
struct ExpertExchange::Plan {
  std::vector<int64_t> rows_R, pairs_R;  // to each rank
  int64_t num_rows = 0, num_pairs = 0;
  RowPairs pairs;  // of all rows
  std::vector<float> pair_weights;
  std::vector<int32_t> pair_slots;  // token * K + k
  Tensor token_of_row;              // [rows] i32
  TreeEntries rows_of_token;        // the ranks' sums, for the sum over ranks
};

struct ExpertExchange::Here {
  std::vector<int64_t> rows_R, pairs_R;  // from each rank
  int64_t num_rows = 0, num_pairs = 0;
  SortedPairs sorted;
};

namespace {

template <class T>
std::vector<T> scaled(const std::vector<T>& counts, T a, const std::vector<T>& more, T b) {
  std::vector<T> result(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) result[i] = a * counts[i] + b * more[i];
  return result;
}

int64_t sum(const std::vector<int64_t>& values) {
  int64_t total = 0;
  for (const int64_t value : values) total += value;
  return total;
}

std::span<std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.raw(), static_cast<size_t>(tensor.bytes())};
}

OperationPtr exchange_rows(const Channel& channel, const Tensor& send,
                           std::span<const int64_t> send_rows, const Tensor& recv,
                           std::span<const int64_t> recv_rows, int64_t row_bytes) {
  return all_to_all(channel, {.send = bytes_of(send),
                              .recv = bytes_of(recv),
                              .send_rows_R = send_rows,
                              .recv_rows_R = recv_rows,
                              .row_bytes = row_bytes});
}

}  // namespace

ExpertExchange::ExpertExchange(const ExchangeSettings& settings, std::shared_ptr<Value> x,
                               const Tensor& ids, const Tensor& weights)
    : settings_(settings),
      num_ranks_(settings.num_ranks),
      self_(settings.rank_index),
      x_(std::move(x)),
      tokens_(ids.rows()),
      top_k_(ids.cols()) {
  hidden_ = x_->get().cols();
  plan_ = std::make_unique<Plan>();
  if (settings_.ctx->device() == Device::meta) {
    expect_route();
  } else {
    plan_route(ids.data<int32_t>(), weights.data<float>());
  }
  if (num_ranks_ == 1) return;
  pack_rows(x_->get());
  x_.reset();
}

void ExpertExchange::expect_route() {
  Context& ctx = *settings_.ctx;
  const double rows = static_cast<double>(tokens_) * settings_.expected_ranks;
  plan_->num_rows = num_ranks_ == 1 ? tokens_ : static_cast<int64_t>(std::llround(rows));
  plan_->num_pairs = tokens_ * top_k_;
  const auto ints = [&](int64_t count) { return ctx.empty({count}, DType::i32, Purpose::routed); };
  plan_->token_of_row = ints(plan_->num_rows);
  plan_->rows_of_token = {.offsets = ints(tokens_ + 1),
                          .experts = ints(plan_->num_rows),
                          .rows = ints(plan_->num_rows)};
}

// Each token's choices by expert; counts rows and pairs of each rank.
std::vector<ExpertExchange::Choice> ExpertExchange::count_choices(const int32_t* ids) {
  const int64_t experts_per_rank = settings_.num_experts / num_ranks_;
  plan_->rows_R.assign(static_cast<size_t>(num_ranks_), 0);
  plan_->pairs_R.assign(static_cast<size_t>(num_ranks_), 0);
  std::vector<Choice> choices(static_cast<size_t>(tokens_ * top_k_));
  for (int64_t token = 0; token < tokens_; ++token) {
    const std::span<Choice> mine(choices.data() + token * top_k_, static_cast<size_t>(top_k_));
    for (int64_t k = 0; k < top_k_; ++k)
      mine[static_cast<size_t>(k)] = {ids[token * top_k_ + k],
                                      static_cast<int32_t>(token * top_k_ + k)};
    std::sort(mine.begin(), mine.end(), [](Choice a, Choice b) { return a.expert < b.expert; });
    int64_t before = -1;
    for (const Choice& choice : mine) {
      const int64_t rank = choice.expert / experts_per_rank;
      ++plan_->pairs_R[static_cast<size_t>(rank)];
      if (rank != before) ++plan_->rows_R[static_cast<size_t>(rank)];
      before = rank;
    }
  }
  plan_->num_rows = sum(plan_->rows_R);
  plan_->num_pairs = sum(plan_->pairs_R);
  return choices;
}

void ExpertExchange::plan_route(const int32_t* ids, const float* weights) {
  Context& ctx = *settings_.ctx;
  Plan& plan = *plan_;
  const std::vector<Choice> choices = count_choices(ids);
  const int64_t experts_per_rank = settings_.num_experts / num_ranks_;
  std::vector<int64_t> next_row(1, 0), next_pair(1, 0);  // of each rank
  for (size_t rank = 0; rank + 1 < static_cast<size_t>(num_ranks_); ++rank) {
    next_row.push_back(next_row[rank] + plan.rows_R[rank]);
    next_pair.push_back(next_pair[rank] + plan.pairs_R[rank]);
  }
  std::vector<int32_t> token_of_row(static_cast<size_t>(plan.num_rows));
  std::vector<int32_t> entry_offsets{0}, entry_experts, entry_rows;
  plan.pairs.row_offsets.assign(static_cast<size_t>(plan.num_rows) + 1, 0);
  plan.pairs.experts.resize(static_cast<size_t>(plan.num_pairs));
  plan.pair_weights.resize(static_cast<size_t>(plan.num_pairs));
  plan.pair_slots.resize(static_cast<size_t>(plan.num_pairs));
  for (int64_t token = 0; token < tokens_; ++token) {
    int64_t before = -1, row = -1;
    for (int64_t k = 0; k < top_k_; ++k) {
      const Choice choice = choices[static_cast<size_t>(token * top_k_ + k)];
      const int64_t rank = choice.expert / experts_per_rank;
      if (rank != before) {
        row = next_row[static_cast<size_t>(rank)]++;
        token_of_row[static_cast<size_t>(row)] = static_cast<int32_t>(token);
        entry_experts.push_back(static_cast<int32_t>(rank * experts_per_rank));
        entry_rows.push_back(static_cast<int32_t>(row));
        before = rank;
      }
      const auto pair = static_cast<size_t>(next_pair[static_cast<size_t>(rank)]++);
      plan.pairs.experts[pair] = choice.expert;
      plan.pair_weights[pair] = weights[choice.slot];
      plan.pair_slots[pair] = choice.slot;
      plan.pairs.row_offsets[static_cast<size_t>(row) + 1] = static_cast<int32_t>(pair + 1);
    }
    entry_offsets.push_back(static_cast<int32_t>(entry_rows.size()));
  }
  plan.token_of_row = tensor_of(ctx, token_of_row, Purpose::routed);
  plan.rows_of_token = {.offsets = tensor_of(ctx, entry_offsets, Purpose::routed),
                        .experts = tensor_of(ctx, entry_experts, Purpose::routed),
                        .rows = tensor_of(ctx, entry_rows, Purpose::routed)};
}

ExpertExchange::~ExpertExchange() = default;

void ExpertExchange::pack_rows(const Tensor& x) {
  Context& ctx = *settings_.ctx;
  send_ = ctx.empty({plan_->num_rows, hidden_}, settings_.compute, Purpose::communication);
  gather_rows(ctx, x, plan_->token_of_row, send_);
  const int64_t words = plan_->num_rows + 2 * plan_->num_pairs;
  send_scalars_ = ctx.empty({words}, DType::i32, Purpose::communication);
  ctx.run({.flops = 0, .bytes = 4.0 * static_cast<double>(words)}, [&] {
    int32_t* out = send_scalars_.data<int32_t>();
    for (int64_t row = 0; row < plan_->num_rows; ++row) {
      const int32_t begin = plan_->pairs.row_offsets[static_cast<size_t>(row)];
      const int32_t end = plan_->pairs.row_offsets[static_cast<size_t>(row) + 1];
      *out++ = end - begin;
      for (int32_t pair = begin; pair < end; ++pair) {
        *out++ = plan_->pairs.experts[static_cast<size_t>(pair)];
        std::memcpy(out++, &plan_->pair_weights[static_cast<size_t>(pair)], 4);
      }
    }
  });
}

OperationPtr ExpertExchange::dispatch() {
  if (num_ranks_ == 1) return nullptr;
  here_ = std::make_unique<Here>();
  Context& ctx = *settings_.ctx;
  const auto allocate = [this, &ctx] {
    recv_scalars_ =
        ctx.empty({here_->num_rows + 2 * here_->num_pairs}, DType::i32, Purpose::communication);
    recv_ = ctx.empty({here_->num_rows, hidden_}, settings_.compute, Purpose::routed);
  };
  if (ctx.device() == Device::meta) {
    here_->num_rows = plan_->num_rows;
    here_->num_pairs = plan_->num_pairs;
    allocate();
    return nullptr;
  }
  const Channel& channel = *settings_.channel;
  auto sent = std::make_shared<std::vector<int64_t>>();
  auto received = std::make_shared<std::vector<int64_t>>(2 * static_cast<size_t>(num_ranks_));
  for (size_t rank = 0; rank < static_cast<size_t>(num_ranks_); ++rank)
    sent->insert(sent->end(), {plan_->rows_R[rank], plan_->pairs_R[rank]});
  std::vector<Step> steps;
  steps.push_back(
      [&channel, sent, received] { return all_to_all_counts(channel, *sent, *received); });
  steps.push_back([this, &channel, sent, received, allocate] {
    for (size_t rank = 0; rank < static_cast<size_t>(num_ranks_); ++rank) {
      here_->rows_R.push_back((*received)[2 * rank]);
      here_->pairs_R.push_back((*received)[2 * rank + 1]);
    }
    here_->num_rows = sum(here_->rows_R);
    here_->num_pairs = sum(here_->pairs_R);
    allocate();
    return exchange_rows(channel, send_scalars_,
                         scaled<int64_t>(plan_->rows_R, 1, plan_->pairs_R, 2), recv_scalars_,
                         scaled<int64_t>(here_->rows_R, 1, here_->pairs_R, 2), 4);
  });
  steps.push_back([this, &channel] {
    return exchange_rows(channel, send_, plan_->rows_R, recv_, here_->rows_R,
                         hidden_ * static_cast<int64_t>(size_of(settings_.compute)));
  });
  return sequence(std::move(steps));
}

ExpertBatch ExpertExchange::arrived() {
  Context& ctx = *settings_.ctx;
  const int64_t experts_per_rank = settings_.num_experts / num_ranks_;
  const ExpertRange mine{self_ * experts_per_rank, (self_ + 1) * experts_per_rank};
  const bool meta = ctx.device() == Device::meta;
  if (num_ranks_ == 1) here_ = std::make_unique<Here>();
  Here& here = *here_;
  RowPairs arrived_pairs;
  const RowPairs* pairs = &arrived_pairs;
  std::vector<float> arrived_weights;
  const std::vector<float>* weights = &arrived_weights;
  if (num_ranks_ == 1) {
    here.num_rows = tokens_;
    here.num_pairs = tokens_ * top_k_;
    pairs = &plan_->pairs;
    weights = &plan_->pair_weights;
  } else if (!meta) {
    const int32_t* in = recv_scalars_.data<int32_t>();
    for (int64_t row = 0; row < here.num_rows; ++row) {
      for (int32_t count = *in++; count > 0; --count) {
        arrived_pairs.experts.push_back(*in++);
        float weight;
        std::memcpy(&weight, in++, 4);
        arrived_weights.push_back(weight);
      }
      arrived_pairs.row_offsets.push_back(static_cast<int32_t>(arrived_pairs.num_pairs()));
    }
  }
  send_ = send_scalars_ = recv_scalars_ = {};
  here.sorted = meta ? expected_pairs(ctx, here.num_rows, here.num_pairs, mine)
                     : sort_pairs(ctx, *pairs, mine);
  Tensor sorted_weights = ctx.empty({here.num_pairs}, DType::f32, Purpose::routed);
  ctx.run({.flops = 0, .bytes = 8.0 * static_cast<double>(here.num_pairs)}, [&] {
    const int32_t* arrival = here.sorted.arrival_of_pair.data<int32_t>();
    for (int64_t pair = 0; pair < here.num_pairs; ++pair)
      sorted_weights.data<float>()[pair] = (*weights)[static_cast<size_t>(arrival[pair])];
  });
  return {
      .rows = num_ranks_ == 1 ? std::move(x_) : std::make_shared<Value>(std::exchange(recv_, {})),
      .pair_weights = sorted_weights,
      .offsets = here.sorted.offsets,
      .pairs = here.sorted.map};
}

DType ExpertExchange::sums_dtype() const {
  return num_ranks_ == 1 ? DType::f32 : settings_.combine_wire;
}
int64_t ExpertExchange::rows_sent() const {
  return num_ranks_ == 1 ? 0 : plan_->num_rows - plan_->rows_R[static_cast<size_t>(self_)];
}
int64_t ExpertExchange::pairs_here() const { return here_->num_pairs; }

void ExpertExchange::pack_sums(const Tensor& sums_UH) {
  (num_ranks_ == 1 ? recv_ : send_) = sums_UH;
}

OperationPtr ExpertExchange::combine() {
  if (num_ranks_ == 1) return nullptr;
  Context& ctx = *settings_.ctx;
  recv_ = ctx.empty({plan_->num_rows, hidden_}, settings_.combine_wire, Purpose::communication);
  if (ctx.device() == Device::meta) return nullptr;
  return exchange_rows(*settings_.channel, send_, here_->rows_R, recv_, plan_->rows_R,
                       hidden_ * static_cast<int64_t>(size_of(settings_.combine_wire)));
}

void ExpertExchange::add_sums(Tensor& hidden_TH) {
  Context& ctx = *settings_.ctx;
  if (num_ranks_ == 1) {
    add(ctx, recv_, hidden_TH);
  } else {
    tree_sum(ctx, recv_, plan_->rows_of_token, {0, settings_.num_experts}, Accumulate::yes,
             hidden_TH);
  }
  send_ = recv_ = {};
}

void ExpertExchange::pack_gradient(const Tensor& d_hidden_TH) {
  if (num_ranks_ == 1) {
    recv_ = d_hidden_TH;
    return;
  }
  Context& ctx = *settings_.ctx;
  send_ = ctx.empty({plan_->num_rows, hidden_}, settings_.combine_wire, Purpose::communication);
  gather_rows(ctx, d_hidden_TH, plan_->token_of_row, send_);
}

OperationPtr ExpertExchange::combine_inverse() {
  if (num_ranks_ == 1) return nullptr;
  Context& ctx = *settings_.ctx;
  recv_ = ctx.empty({here_->num_rows, hidden_}, settings_.combine_wire, Purpose::communication);
  if (ctx.device() == Device::meta) return nullptr;
  return exchange_rows(*settings_.channel, send_, plan_->rows_R, recv_, here_->rows_R,
                       hidden_ * static_cast<int64_t>(size_of(settings_.combine_wire)));
}

Tensor ExpertExchange::take_d_sums() {
  send_ = {};
  return std::exchange(recv_, {});
}

void ExpertExchange::pack_expert_gradients(const ExpertsGradient& gradients) {
  Context& ctx = *settings_.ctx;
  // Weight gradients go back in the order the pairs arrived in.
  send_scalars_ = ctx.empty({here_->num_pairs}, DType::f32, Purpose::communication);
  ctx.run({.flops = 0, .bytes = 8.0 * static_cast<double>(here_->num_pairs)}, [&] {
    const int32_t* arrival = here_->sorted.arrival_of_pair.data<int32_t>();
    const float* sorted = gradients.d_pair_weights.data<float>();
    for (int64_t pair = 0; pair < here_->num_pairs; ++pair)
      send_scalars_.data<float>()[arrival[pair]] = sorted[pair];
  });
  if (num_ranks_ == 1 || settings_.combine_wire == DType::f32) {
    send_ = gradients.d_rows;
  } else {
    send_ = ctx.empty({here_->num_rows, hidden_}, settings_.combine_wire, Purpose::communication);
    cast(ctx, gradients.d_rows, send_);
  }
}

OperationPtr ExpertExchange::dispatch_inverse() {
  if (num_ranks_ == 1) return nullptr;
  Context& ctx = *settings_.ctx;
  recv_scalars_ = ctx.empty({plan_->num_pairs}, DType::f32, Purpose::communication);
  recv_ = ctx.empty({plan_->num_rows, hidden_}, settings_.combine_wire, Purpose::communication);
  if (ctx.device() == Device::meta) return nullptr;
  const Channel& channel = *settings_.channel;
  std::vector<Step> steps;
  steps.push_back([this, &channel] {
    return exchange_rows(channel, send_scalars_, here_->pairs_R, recv_scalars_, plan_->pairs_R, 4);
  });
  steps.push_back([this, &channel] {
    return exchange_rows(channel, send_, here_->rows_R, recv_, plan_->rows_R,
                         hidden_ * static_cast<int64_t>(size_of(settings_.combine_wire)));
  });
  return sequence(std::move(steps));
}

ExpertExchange::Gradients ExpertExchange::take_gradients() {
  Context& ctx = *settings_.ctx;
  Gradients result;
  const Tensor scalars = num_ranks_ == 1 ? send_scalars_ : recv_scalars_;
  result.d_weights = ctx.empty({tokens_, top_k_}, DType::f32, Purpose::activations);
  ctx.run({.flops = 0, .bytes = 8.0 * static_cast<double>(plan_->num_pairs)}, [&] {
    // Every (token, k) was sent exactly once.
    for (int64_t pair = 0; pair < plan_->num_pairs; ++pair)
      result.d_weights.data<float>()[plan_->pair_slots[static_cast<size_t>(pair)]] =
          scalars.data<float>()[pair];
  });
  if (num_ranks_ == 1) {
    result.d_x = send_;
  } else {
    result.d_x = ctx.empty({tokens_, hidden_}, DType::f32, Purpose::activations);
    tree_sum(ctx, recv_, plan_->rows_of_token, {0, settings_.num_experts}, Accumulate::no,
             result.d_x);
  }
  send_ = recv_ = send_scalars_ = recv_scalars_ = {};
  return result;
}

}  // namespace strait
