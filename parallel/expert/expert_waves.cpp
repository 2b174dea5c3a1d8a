#include "parallel/expert/expert_waves.h"

#include <algorithm>

#include "core/ops/elementwise.h"

namespace strait {
namespace {

// The entries of all waves, each token's by expert; rows of later waves stand behind.
TreeEntries joined_entries(Context& ctx, const std::vector<ExpertExchange::Returned>& parts,
                           int64_t tokens) {
  struct Entry {
    int32_t expert, row;
  };
  std::vector<int32_t> offsets{0}, experts, rows;
  std::vector<Entry> of_token;
  for (int64_t token = 0; token < tokens; ++token) {
    of_token.clear();
    int64_t first_row = 0;
    for (const ExpertExchange::Returned& part : parts) {
      const int32_t* begins = part.entries.offsets.data<int32_t>();
      for (int32_t at = begins[token]; at < begins[token + 1]; ++at)
        of_token.push_back(
            {part.entries.experts.data<int32_t>()[at],
             static_cast<int32_t>(first_row) + part.entries.rows.data<int32_t>()[at]});
      first_row += part.rows.rows();
    }
    std::ranges::sort(of_token, {}, &Entry::expert);
    for (const Entry& entry : of_token) {
      experts.push_back(entry.expert);
      rows.push_back(entry.row);
    }
    offsets.push_back(static_cast<int32_t>(experts.size()));
  }
  const auto ints = [&](const std::vector<int32_t>& values) {
    return tensor_of(ctx, std::span<const int32_t>(values), Purpose::workspace);
  };
  return {.offsets = ints(offsets), .experts = ints(experts), .rows = ints(rows)};
}

}  // namespace

ExpertWaves::ExpertWaves(ExchangeSettings settings, int num_waves, const std::shared_ptr<Value>& x,
                         const Tensor& ids, const Tensor& weights)
    : settings_(std::move(settings)), tokens_(ids.rows()), top_k_(ids.cols()) {
  hidden_ = x->get().cols();
  settings_.num_waves = settings_.links.num_ranks == 1 ? 1 : num_waves;
  for (int wave = 0; wave < settings_.num_waves; ++wave) {
    ExchangeSettings mine = settings_;
    mine.wave = wave;
    waves_.push_back(std::make_unique<ExpertExchange>(mine, x, ids, weights));
  }
}

void ExpertWaves::sum_returned(Context& ctx, Accumulate accumulate, Tensor& out_TH) {
  std::vector<ExpertExchange::Returned> parts;
  int64_t num_rows = 0;
  for (const auto& wave : waves_) {
    parts.push_back(wave->take_returned(ctx));
    num_rows += parts.back().rows.rows();
  }
  Tensor rows = ctx.empty({num_rows, hidden_}, settings_.combine_wire, Purpose::workspace);
  int64_t first = 0;
  for (const ExpertExchange::Returned& part : parts) {
    Tensor place = rows.slice_rows(first, part.rows.rows());
    cast(ctx, part.rows, place);
    first += part.rows.rows();
  }
  TreeEntries entries = parts.front().entries;
  if (ctx.device() == Device::cpu) entries = joined_entries(ctx, parts, tokens_);
  tree_sum(ctx, rows, entries, {0, settings_.num_experts}, accumulate, out_TH);
}

void ExpertWaves::add_sums(Context& ctx, Tensor& hidden_TH) {
  if (num_waves() == 1) return wave(0).add_sums(ctx, hidden_TH);
  sum_returned(ctx, Accumulate::yes, hidden_TH);
}

void ExpertWaves::pack_gradient(Context& ctx, const Tensor& d_hidden_TH) {
  for (const auto& wave : waves_) wave->pack_gradient(ctx, d_hidden_TH);
}

ExpertExchange::Gradients ExpertWaves::take_gradients() {
  if (num_waves() == 1) return wave(0).take_gradients();
  Context& ctx = *settings_.ctx;
  ExpertExchange::Gradients result;
  result.d_weights = ctx.empty({tokens_, top_k_}, DType::f32, Purpose::activations);
  for (const auto& wave : waves_) wave->take_weight_gradients(result.d_weights);
  result.d_x = ctx.empty({tokens_, hidden_}, DType::f32, Purpose::activations);
  sum_returned(ctx, Accumulate::no, result.d_x);
  return result;
}

RoutedRows ExpertWaves::load() const {
  RoutedRows sum;
  for (const auto& wave : waves_) {
    const RoutedRows one = wave->load();
    sum.rows += one.rows;
    sum.rows_here += one.rows_here;
    sum.pairs_here += one.pairs_here;
  }
  return sum;
}

}  // namespace strait
