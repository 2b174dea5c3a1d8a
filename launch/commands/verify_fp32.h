// launch/commands/verify_fp32.h: how far FP8 gradients are from FP32's, of a layout beside one
// rank.
#pragma once

#include <memory>
#include <span>

#include "launch/commands/verify_tensors.h"
#include "launch/engine/engine.h"

namespace strait {

// One rank that computes a step in FP32 from the state of another one.
class Fp32Gradients {
 public:
  explicit Fp32Gradients(const EngineSettings& one_rank);

  // The step `step` from `from`'s masters and biases, which has not run it yet.
  void run(Engine& from, int64_t step, const std::vector<int32_t>& windows);
  // || layout - FP32 || / || reference - FP32 || over all gradients.
  double distance_ratio(const WholeTensors& layout, std::span<const StatePiece> reference) const;

 private:
  std::unique_ptr<Engine> engine_;
  WholeTensors masters_, gradients_;
};

}  // namespace strait
