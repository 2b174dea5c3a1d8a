// launch/engine/engine_layer.h: what an engine holds of a micro-batch between its first task and
// its last.
#pragma once

#include <map>
#include <mutex>
#include <tuple>

#include "launch/engine/engine.h"

namespace strait {

// One layer, between its forward and its weight gradients.
struct Engine::Layer {
  AttentionPhase attention;
  MlpPhase mlp;                       // of a dense layer, or the shared experts
  std::vector<ExpertsPhase> experts;  // of each wave
  std::unique_ptr<ExpertWaves> exchange;
  Tensor d_out;  // gradient of the layer's output, FP32
  Tensor d_x;    // what the MLP adds to the gradient of x
};

struct Engine::Microbatch {
  std::unique_ptr<Segment> embed_segment;
  Var embedded;
  std::vector<std::unique_ptr<Layer>> layers;  // [num_layers]; null: not begun, done, or elsewhere
  HeadPhase main_head, mtp_head;
  MtpInputPhase mtp_input;
  Tensor d_embedded, d_normed_from_mtp;
};

// What has come from another stage or waits to be sent there, [T, H] FP32. Thread-safe: the compute
// thread and the communication thread hand it over to each other here.
class Engine::Crossings {
 public:
  void put(const Message& message, Tensor tensor) {
    std::lock_guard lock(mutex_);
    const bool is_new = tensors_.emplace(key_of(message), std::move(tensor)).second;
    STRAIT_CHECK(is_new, "a stage's input or gradient came twice");
  }
  Tensor take(const Message& message) {
    std::lock_guard lock(mutex_);
    const auto found = tensors_.find(key_of(message));
    STRAIT_CHECK(found != tensors_.end(), "a stage's input or gradient is not there yet");
    Tensor tensor = std::move(found->second);
    tensors_.erase(found);
    return tensor;
  }

 private:
  using Key = std::tuple<int, Pass, int>;
  static Key key_of(const Message& m) { return {m.microbatch, m.pass, m.layer}; }
  std::mutex mutex_;
  std::map<Key, Tensor> tensors_;
};

// Slots of Engine::sums_.
enum CommitSlot {
  kSquares,
  kNll,
  kTargets,
  kMtpNll,
  kMtpTargets,
  kBalance,
  kNonFinite,
  kStop,
  kSameNodeBytes,
  kOtherNodeBytes,
  kExchangeFarBytes,
  kExchangeFloorBytes,
  kRoutedAgain,
  kWaitingSeconds,
  kTransferSeconds,
  kNumSlots
};

}  // namespace strait
