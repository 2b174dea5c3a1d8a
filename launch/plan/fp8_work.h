// launch/plan/fp8_work.h: the BF16 step with its linear layers in FP8, for prices.
//
// GEMMs of dense and expert layers multiply E4M3 codes; embedding, head, router, norms and
// attention stay as they are. An operand is quantised before its GEMM: per 1x128 tile for products,
// and once more along the tokens for weight gradients. Kept from forward: experts' rows and
// SwiGLU's inputs in FP8, attention's output in 12 bits (E5M6), and for the weight gradients FP8
// operands; the residual stream stays FP32. Rows to the experts travel in FP8; exchange buffers
// count as in BF16. Source: DeepSeek-V3 report, sections 3.3 and 3.5.2.
#pragma once

#include "launch/engine/engine.h"
#include "parallel/sim/model_work.h"

namespace strait {

inline constexpr double kFp8Bytes = 1 + 4.0 / 128;  // of one element, with its tile's FP32 scale
inline constexpr double kE5M6Bytes = 1.5 + 4.0 / 128;

// REQUIRES: `work` was measured in BF16 with these settings.
void to_fp8(ModelWork& work, const EngineSettings& settings);

}  // namespace strait
