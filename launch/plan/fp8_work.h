// launch/plan/fp8_work.h: the ops of a BF16 step with its linear layers in FP8, for prices.
//
// The engine's own FP8 ops are the CPU's, which write to memory between quantising, permuting and
// multiplying. What a GPU's fused kernels would move is made from the BF16 step's: GEMMs of layers
// in FP8 (settings.formats) multiply E4M3 codes; embedding, head, router, norms and attention stay
// as they are. An operand is quantised before its GEMM: per 1x128 tile for products, and once more
// along the tokens for weight gradients. Attention's output waits in 12 bits (E5M6). Source:
// DeepSeek-V3 report, sections 3.3 and 3.5.2.
#pragma once

#include "launch/engine/engine.h"
#include "parallel/sim/model_work.h"

namespace strait {

inline constexpr double kFp8Bytes = 1 + 4.0 / 128;  // of one element, with its tile's FP32 scale
inline constexpr double kE5M6Bytes = 1.5 + 4.0 / 128;

// REQUIRES: `work` was measured in BF16 with these settings.
void ops_to_fp8(ModelWork& work, const EngineSettings& settings);

}  // namespace strait
