// launch/engine/engine_layer.h: one layer of the micro-batch in flight, between its forward and its
// weight gradients.
#pragma once

#include "launch/engine/engine.h"

namespace strait {

struct Engine::Layer {
  AttentionPhase attention;
  MlpPhase mlp;  // of a dense layer, or the shared experts
  ExpertsPhase experts;
  std::unique_ptr<ExpertExchange> exchange;
  Tensor d_out;  // gradient of the layer's output, FP32
  Tensor d_x;    // what the MLP adds to the gradient of x
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
  kWaitingSeconds,
  kTransferSeconds,
  kNumSlots
};

}  // namespace strait
