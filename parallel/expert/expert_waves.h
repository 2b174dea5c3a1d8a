// parallel/expert/expert_waves.h: one layer's exchange in parts, so that the experts of one run
// while the rows of the next are on their way.   T tokens, K experts each, H hidden.
//
// Wave k has the k-th of equal stretches of each rank's experts (expert_parts.h), and an exchange
// of its own (expert_exchange.h). What comes back is summed over all waves at once, by the same
// tree: with an FP32 wire the sums have the bits of one exchange, over one tier or two, where the
// number of waves is a power of two. With one rank there is nothing to send, and the first wave has
// all experts.
#pragma once

#include <memory>
#include <vector>

#include "parallel/expert/expert_exchange.h"

namespace strait {

class ExpertWaves {
 public:
  // As ExpertExchange. REQUIRES: num_waves divides the experts of a rank.
  ExpertWaves(ExchangeSettings settings, int num_waves, const std::shared_ptr<Value>& x,
              const Tensor& ids, const Tensor& weights);

  int num_waves() const { return static_cast<int>(waves_.size()); }
  ExpertExchange& wave(int index) { return *waves_[static_cast<size_t>(index)]; }

  // Of all waves: see ExpertExchange.
  void add_sums(Context& ctx, Tensor& hidden_TH);
  void pack_gradient(Context& ctx, const Tensor& d_hidden_TH);
  ExpertExchange::Gradients take_gradients();
  RoutedRows load() const;

 private:
  void sum_returned(Context& ctx, Accumulate accumulate, Tensor& out_TH);

  ExchangeSettings settings_;
  int64_t tokens_ = 0, top_k_ = 0, hidden_ = 0;
  std::vector<std::unique_ptr<ExpertExchange>> waves_;
};

}  // namespace strait
