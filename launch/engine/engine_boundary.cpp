// launch/engine/engine_boundary.cpp: the step's boundary: norm, commit, update, weights.
#include <cmath>
#include <cstring>
#include <utility>

#include "core/ops/elementwise.h"
#include "launch/engine/engine_layer.h"
#include "optim/shard_update.h"
#include "parallel/comm/all_gather.h"
#include "parallel/comm/all_reduce.h"
#include "parallel/comm/reduce_scatter.h"

namespace strait {
namespace {

std::vector<int64_t> shard_sizes(const Bucket& bucket, int64_t element_bytes) {
  std::vector<int64_t> sizes;
  for (size_t shard = 0; shard + 1 < bucket.bounds.size(); ++shard)
    sizes.push_back((bucket.bounds[shard + 1] - bucket.bounds[shard]) * element_bytes);
  return sizes;
}

Tensor own_gradients(const Bucket& bucket) {
  return bucket.gradients.view({bucket.numel, 1})
      .slice_rows(bucket.shard_begin(), bucket.shard_size())
      .view({bucket.shard_size()});
}

}  // namespace

OperationPtr Engine::reduce_gradients(int index) {
  Bucket& bucket = buckets_[static_cast<size_t>(index)];
  if (bucket.bounds.size() == 2) return nullptr;
  const Channel& channel = bucket_channels_[static_cast<size_t>(index)];
  const auto all = bucket.gradients.span<float>();
  const std::vector<int64_t> counts = shard_sizes(bucket, 1);
  return reduce_scatter_sum(channel, {.send = all,
                                      .recv = all.subspan(static_cast<size_t>(bucket.shard_begin()),
                                                          static_cast<size_t>(bucket.shard_size())),
                                      .counts_R = counts});
}

void Engine::gradient_norm() {
  agreed_ = true;
  sums_[kSquares] = 0;
  for (const Bucket& bucket : buckets_)
    sums_[kSquares] += sum_of_squares(*ctx_, own_gradients(bucket));
  sums_[kNonFinite] = std::isfinite(sums_[kSquares] + sums_[kNll] + sums_[kMtpNll]) ? 0 : 1;
  sums_[kStop] = stop_requested_ ? 1 : 0;
  sums_[kRoutedAgain] = static_cast<double>(routed_pool_.refused());
  largest_ = {routed_pool_.fullest(), static_cast<double>(ctx_->memory().at_peak().total())};
  routed_pool_.reset();
  if (comm_ != nullptr) {
    LaneBytes sent;
    for (int lane = 0; lane < kNumLinkLanes; ++lane) {
      const LaneBytes of_lane = comm_->bytes_sent(static_cast<LinkLane>(lane));
      sent.same_node += of_lane.same_node;
      sent.other_nodes += of_lane.other_nodes;
    }
    sums_[kSameNodeBytes] = static_cast<double>(sent.same_node - sent_at_commit_.same_node);
    sums_[kOtherNodeBytes] = static_cast<double>(sent.other_nodes - sent_at_commit_.other_nodes);
    sent_at_commit_ = sent;
    const int64_t exchanged = comm_->bytes_sent(links_.lane).other_nodes;
    sums_[kExchangeFarBytes] = static_cast<double>(exchanged - exchanged_at_commit_);
    sums_[kExchangeFloorBytes] = static_cast<double>(*links_.floor_bytes - floor_at_commit_);
    exchanged_at_commit_ = exchanged;
    floor_at_commit_ = *links_.floor_bytes;
    sums_[kWaitingSeconds] = times_.waiting_seconds;
    sums_[kTransferSeconds] = times_.transfer_seconds;
  }
  if (expert_counts_.defined() && ctx_->device() == Device::cpu) {
    const auto counts = expert_counts_.span<int64_t>();
    totals_.expert_counts.assign(counts.begin(), counts.end());
    std::memset(expert_counts_.raw(), 0, static_cast<size_t>(expert_counts_.bytes()));
  }
}

OperationPtr Engine::commit() {
  if (!world_channel_ || world_channel_->size() == 1) return nullptr;
  std::vector<Step> steps;
  steps.push_back([this] { return all_reduce_sum(*world_channel_, std::span<double>(sums_)); });
  steps.push_back([this] { return all_reduce_max(*world_channel_, std::span<double>(largest_)); });
  steps.push_back([this]() -> OperationPtr {
    if (totals_.expert_counts.empty()) return nullptr;
    return all_reduce_sum(*world_channel_, std::span<int64_t>(totals_.expert_counts));
  });
  return sequence(std::move(steps));
}

// All ranks hold the same sums, so all take the same branch.
void Engine::finish_commit() {
  totals_.nll = sums_[kNll];
  totals_.targets = sums_[kTargets];
  totals_.mtp_nll = sums_[kMtpNll];
  totals_.mtp_targets = sums_[kMtpTargets];
  totals_.balance_loss = sums_[kBalance] / static_cast<double>(sequences_to_commit_);
  totals_.gradient_norm = std::sqrt(sums_[kSquares]);
  totals_.stop_requested = sums_[kStop] > 0;
  totals_.same_node_bytes = sums_[kSameNodeBytes];
  totals_.other_node_bytes = sums_[kOtherNodeBytes];
  totals_.exchange_far_bytes = sums_[kExchangeFarBytes];
  totals_.exchange_floor_bytes = sums_[kExchangeFloorBytes];
  totals_.routed_again = sums_[kRoutedAgain];
  totals_.routed_fullest = largest_[0];
  totals_.memory_bytes = largest_[1];
  totals_.waiting_seconds = sums_[kWaitingSeconds];
  totals_.transfer_seconds = sums_[kTransferSeconds];
  const bool finite = sums_[kNonFinite] == 0;
  sums_.assign(kNumSlots, 0);
  if (!finite)
    throw NumericsError("step " + std::to_string(committed_steps_ + 1) +
                        ": the loss or a gradient is not finite; nothing was updated");
  ++committed_steps_;
  update_selection_bias();
}

void Engine::update(int index) {
  if (std::exchange(agreed_, false)) finish_commit();
  Bucket& bucket = buckets_[static_cast<size_t>(index)];
  const OptimizerSettings& o = settings_.optimizer;
  const auto step = static_cast<double>(committed_steps_);
  double clip = 1;
  if (o.grad_clip_norm > 0 && totals_.gradient_norm > o.grad_clip_norm)
    clip = o.grad_clip_norm / (totals_.gradient_norm + 1e-6);
  update_shard(*ctx_, bucket,
               {.lr = learning_rate_,
                .beta1 = o.beta1,
                .beta2 = o.beta2,
                .eps = o.eps,
                .weight_decay = o.weight_decay,
                .bias_correction1 = 1 - std::pow(o.beta1, step),
                .bias_correction2 = 1 - std::pow(o.beta2, step),
                .gradient_scale = clip});
  fill(*ctx_, 0, bucket.gradients);
}

// b += speed * sign(mean load - load), per layer.  Source: DeepSeek-V3 report, section 2.1.2; arXiv
// 2408.15664.
void Engine::update_selection_bias() {
  const double speed = settings_.balance.bias_update_speed;
  if (speed == 0 || settings_.model.topk_method != "noaux_tc" || ctx_->device() == Device::meta)
    return;
  const auto experts = static_cast<size_t>(settings_.model.n_routed_experts);
  for (size_t first = 0; first < bias_.size(); first += experts) {
    int64_t sum = 0;
    for (size_t expert = 0; expert < experts; ++expert)
      sum += totals_.expert_counts[first + expert];
    for (size_t expert = 0; expert < experts; ++expert) {
      // Compared as integers: count * E against the sum.
      const int64_t excess =
          totals_.expert_counts[first + expert] * static_cast<int64_t>(experts) - sum;
      bias_[first + expert] += static_cast<float>(excess > 0 ? -speed : excess < 0 ? speed : 0.0);
    }
  }
  if (!bias_.empty()) std::memcpy(bias_tensor_.raw(), bias_.data(), bias_.size() * sizeof(float));
}

OperationPtr Engine::gather_weights(int index) {
  Bucket& bucket = buckets_[static_cast<size_t>(index)];
  if (bucket.bounds.size() == 2) return nullptr;
  const Channel& channel = bucket_channels_[static_cast<size_t>(index)];
  const std::vector<int64_t> bytes =
      shard_sizes(bucket, static_cast<int64_t>(size_of(bucket.dtype)));
  return all_gather(channel,
                    {.data = {bucket.weights.raw(), static_cast<size_t>(bucket.weights.bytes())},
                     .bytes_R = bytes});
}

void Engine::pack_weights(int index) {
  for (const BucketEntry& entry : buckets_[static_cast<size_t>(index)].entries) {
    Parameter& parameter = *entry.parameter;
    if (parameter.role == Role::linear || parameter.role == Role::expert_stack ||
        &parameter == model_.head)
      parameter.packed.pack(*ctx_, parameter.weight, parameter.operands);
    if (ctx_->take_not_finite())
      throw NotFiniteError(parameter.name + " has numbers that are not finite");
  }
}

}  // namespace strait
