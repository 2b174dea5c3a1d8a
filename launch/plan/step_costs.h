// launch/plan/step_costs.h: what the phases of a model's step take, found by running them on the
// `meta` device.
//
// What a phase takes depends on the kind of its layer only. So the Engine runs one dense layer, one
// MoE layer, the MTP module, embedding and head of the model, with the layout's expert-parallel
// size, and its tasks' ops and memory are recorded: 671 B parameters take well under a second.
#pragma once

#include "launch/engine/engine.h"
#include "launch/plan/stage_cut.h"
#include "parallel/sim/model_work.h"

namespace strait {

struct StepCostSettings {
  EngineSettings engine;  // model, optimizer, sequence length, micro-batch, recomputation, wires
  // fp8: memory as the engine has it, ops as a GPU's fused kernels would (fp8_work.h). bf16: as if
  // the engine's formats said so.
  Precision precision = Precision::bf16;
  int64_t expert = 1;  // ranks of an expert group
  int64_t ranks_per_node = 1;
  int64_t waves = 1;      // parts that a layer's experts are exchanged in
  bool two_tier = false;  // exchanges, as parallel.exchange
};

// Phases, exchanges and messages. `stages` and `buckets` are left to position_buckets()
// (step_buckets.h). REQUIRES: a model and an expert-parallel size that passed the recipe's checks.
ModelWork measure_step(const StepCostSettings& settings);

// Of one MoE layer. Wire formats as in parallel/expert/expert_exchange.h; `fp8_dispatch`: of the
// rows on their way to the experts, and their gradients.
std::map<std::pair<Kind, Pass>, ExchangeBytes> exchange_bytes(const EngineSettings& settings,
                                                              bool fp8_dispatch);

// For EngineSettings::head_chunk_tokens. Each chunk reads and writes the head's FP32 weight
// gradient once, 8 bytes for 2 FLOPs a token: the least power of two, 512 or more, at which that
// takes no longer than the arithmetic at its peak.
int64_t head_chunk_tokens(const Cluster& cluster);

// FLOPs of the products (GEMMs, causal attention) of one sequence's forward and backward, without
// recomputed ones.
ModelCosts model_flops(EngineSettings settings);

// The same of one token. Model FLOPs utilization (MFU) is the main model's FLOP/s over the BF16
// peak, as DeepSeek reports it.
struct TokenFlops {
  double main = 0, mtp = 0;
};
TokenFlops flops_per_token(const EngineSettings& settings);

}  // namespace strait
