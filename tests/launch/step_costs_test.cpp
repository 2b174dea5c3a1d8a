#include "launch/plan/step_costs.h"

#include <gtest/gtest.h>

#include "launch/engine/engine_settings.h"
#include "recipes/recipe.h"

namespace strait {
namespace {

// The published layout: experts over 64 ranks, 8 a node; one sequence of 4,096 tokens.
StepCostSettings v3(Precision precision) {
  const Recipe recipe = load_recipe(STRAIT_SOURCE_DIR "/recipes/deepseek-v3.yaml");
  return {.engine = engine_settings(recipe, Mesh(128, 1, 64), 1),
          .precision = precision,
          .expert = 64,
          .ranks_per_node = 8};
}

double product_flops(const PhaseWork& work) {
  double flops = 0;
  for (const TaskOp& op : work.ops)
    if (op.cost.op_class != OpClass::other && op.cost.op_class != OpClass::permute)
      flops += op.cost.flops;
  return flops;
}

double product_flops(const ModelWork& work, int layer) {
  double flops = 0;
  for (const auto& [key, phase] : work.phases)
    if (key.layer == layer && key.kind != Kind::head) flops += product_flops(phase);
  return flops;
}

// 61 layers with 128 heads of 192 + 128 channels over the causal half of 4,096 x 4,096, forward and
// backward.
constexpr double kAttentionOfLayer = 3 * (4096 + 1) / 2.0 * 128 * 2 * (192 + 128);

TEST(StepCosts, V3HasThePublishedFlops) {
  const TokenFlops flops = flops_per_token(v3(Precision::bf16).engine);
  EXPECT_NEAR(flops.main, 250.4e9, 0.1e9);
  EXPECT_NEAR(flops.main - 61 * kAttentionOfLayer, 6 * 36.62e9, 6 * 0.005e9);
  EXPECT_NEAR(flops.mtp - kAttentionOfLayer, 6 * 1.615e9, 6 * 0.0005e9);
}

TEST(StepCosts, V3LayerPairHasThePublishedFlops) {
  StepCostSettings settings = v3(Precision::fp8);
  settings.engine.recompute = {.norms = false, .mla_up = false, .swiglu = false};
  const ModelWork work = measure_step(settings);
  EXPECT_NEAR(product_flops(work, work.like_layer(30)), 16.45e12, 0.005e12);
  // MLA's up-projections of queries and of keys and values, run once more.
  const double again = 2.0 * 4096 * (1536 * 128 * 192 + 512 * 128 * 256);
  const ModelWork recomputed = measure_step(v3(Precision::fp8));
  EXPECT_NEAR(product_flops(recomputed, recomputed.like_layer(30)), 16.447e12 + again, 0.002e12);
}

TEST(StepCosts, ExpertsGetTheirShareOfAllRows) {
  const ModelWork work = measure_step(v3(Precision::bf16));
  const PhaseWork& experts = work.phase(Kind::experts, 10, Pass::forward);
  std::vector<GemmSize> gemms;
  for (const TaskOp& op : experts.ops)
    if (op.cost.op_class == OpClass::expert) gemms.push_back(op.cost.gemm);
  ASSERT_EQ(gemms.size(), 2u);
  for (const GemmSize& gemm : gemms) {
    EXPECT_EQ(gemm.groups, 4);
    EXPECT_EQ(gemm.rows, 4096 * 8);
  }
  EXPECT_EQ(gemms[0].in, 7168);
  EXPECT_EQ(gemms[0].out, 4096);
  EXPECT_EQ(gemms[1].in, 2048);
  EXPECT_EQ(gemms[1].out, 7168);
}

TEST(StepCosts, EveryLayerCostsLikeOneOfItsKind) {
  const ModelWork work = measure_step(v3(Precision::bf16));
  ASSERT_EQ(work.like.size(), 62u);
  for (int layer = 0; layer < 61; ++layer) EXPECT_EQ(work.is_moe(layer), layer >= 3) << layer;
  EXPECT_EQ(work.like_layer(0), work.like_layer(2));
  EXPECT_EQ(work.like_layer(3), work.like_layer(60));
  EXPECT_TRUE(work.is_moe(61));
  EXPECT_NE(work.like_layer(61), work.like_layer(60));
  // The MTP module has a projection more, and embeds.
  EXPECT_GT(work.phase(Kind::attention, 61, Pass::forward).ops.size(),
            work.phase(Kind::attention, 60, Pass::forward).ops.size());
}

// In a steady state a micro-batch leaves nothing behind, whatever is recomputed.
TEST(StepCosts, WhatForwardKeepsBackwardFrees) {
  for (const Precision precision : {Precision::bf16, Precision::fp8}) {
    for (const bool recomputes : {false, true}) {
      StepCostSettings settings = v3(precision);
      settings.engine.recompute = {recomputes, recomputes, recomputes};
      const ModelWork work = measure_step(settings);
      MemoryUse left;
      int64_t kept = 0;
      for (const auto& [key, phase] : work.phases) {
        for (size_t i = 0; i < left.bytes.size(); ++i) left.bytes[i] += phase.left.bytes[i];
        if (key.pass == Pass::forward) kept += phase.left.total();
        EXPECT_GE(phase.peak.total(), phase.left.total()) << name_of(key.kind);
      }
      EXPECT_EQ(left.total(), 0);
      EXPECT_EQ(left.bytes, MemoryUse{}.bytes);
      EXPECT_GT(kept, int64_t{1} << 30);
    }
  }
}

// What a layer's forward, and its input gradient after it, leave behind.
double left_by_layer(const ModelWork& work, Purpose purpose, bool after_backward) {
  int64_t bytes = 0;
  for (const Kind kind : {Kind::attention, Kind::shared, Kind::experts, Kind::combine})
    for (const Pass pass : {Pass::forward, Pass::input_gradient})
      if (pass == Pass::forward || after_backward)
        bytes += work.phase(kind, 10, pass).left.bytes[static_cast<size_t>(purpose)];
  return static_cast<double>(bytes);
}

// What FP8 keeps of a layer, against what is known: 4,096 tokens, 32,768 pairs.
TEST(StepCosts, Fp8KeepsCodesOfLinearInputs) {
  const ModelWork bf16 = measure_step(v3(Precision::bf16)), fp8 = measure_step(v3(Precision::fp8));
  const auto saved = [&](Purpose purpose) {
    return left_by_layer(bf16, purpose, false) - left_by_layer(fp8, purpose, false);
  };
  const double less = 2 - (1 + 4.0 / 128), tokens = 4096, pairs = 8 * tokens;
  const double rows = tokens * bf16.ranks_of_token * 7168;
  // Forward: token rows and SwiGLU's inputs in FP8, attention's output in E5M6.
  EXPECT_NEAR(saved(Purpose::routed), less * (rows + pairs * 4096), 4e3);
  EXPECT_NEAR(saved(Purpose::activations),
              (2 - (1.5 + 4.0 / 128)) * tokens * 16384 + less * tokens * 4096, 2);
  // Then the operands of weight gradients, in tiles of 128 x 1, and nothing else but what the
  // router's reads: its input in BF16 and the gradient of its logits.
  const auto columns = [](double count, double groups, double channels) {
    return channels * (count + 4 * (count / 128 + groups));
  };
  const double of_attention = 7168 + 1536 + 512 + 16384 + 1536 + 576 + 24576 + 32768 + 7168;
  const double of_experts = 7168 + 4096 + 2048 + 7168;
  EXPECT_NEAR(left_by_layer(fp8, Purpose::activations, true),
              columns(tokens, 1, of_attention + of_experts) + tokens * (7168 * 2 + 256 * 4), 5e5);
  EXPECT_NEAR(left_by_layer(fp8, Purpose::routed, true), columns(pairs, 4, of_experts), 2e6);
}

TEST(StepCosts, Fp8RunsLinearLayersInFp8AndNothingElse) {
  const ModelWork work = measure_step(v3(Precision::fp8));
  for (const auto& [key, phase] : work.phases) {
    for (const TaskOp& op : phase.ops) {
      const bool product =
          op.cost.op_class == OpClass::linear || op.cost.op_class == OpClass::expert;
      const bool router = op.cost.gemm.in == 256 || op.cost.gemm.out == 256;
      EXPECT_EQ(op.precision == Precision::fp8, product && key.kind != Kind::head && !router)
          << name_of(key.kind);
    }
  }
  const auto row_bytes = [&](Kind kind, Pass pass) { return work.exchanges.at({kind, pass}).row; };
  EXPECT_EQ(row_bytes(Kind::dispatch, Pass::forward), 7168 + 7168 / 128 * 4 + 4);
  EXPECT_EQ(row_bytes(Kind::combine, Pass::input_gradient), 7168 + 7168 / 128 * 4);
  EXPECT_EQ(row_bytes(Kind::combine, Pass::forward), 2 * 7168);
  EXPECT_EQ(row_bytes(Kind::dispatch, Pass::input_gradient), 2 * 7168);
}

// One layer of each kind is run, whatever their number.
TEST(StepCosts, TakeNoMoreWorkForMoreLayers) {
  StepCostSettings settings = v3(Precision::fp8);
  const ModelWork work = measure_step(settings);
  EXPECT_EQ(work.like.size(), 62U);
  settings.engine.model.first_k_dense_replace = 1;
  settings.engine.model.num_hidden_layers = 2;
  const ModelWork small = measure_step(settings);
  EXPECT_EQ(small.like.size(), 3U);
  EXPECT_EQ(work.phases.size(), small.phases.size());
}

TEST(StepCosts, ModelsWithoutDenseLayersExpertsOrMtp) {
  StepCostSettings settings = v3(Precision::bf16);
  settings.engine.model.num_nextn_predict_layers = 0;
  settings.engine.model.first_k_dense_replace = 0;
  ModelWork work = measure_step(settings);
  EXPECT_EQ(work.like, std::vector<int>(61, 0));
  EXPECT_TRUE(work.is_moe(0));
  settings.expert = 1;
  settings.engine.model.n_routed_experts = settings.engine.model.n_shared_experts = 0;
  settings.engine.model.num_experts_per_tok = 0;
  work = measure_step(settings);
  EXPECT_EQ(work.like, std::vector<int>(61, 0));
  EXPECT_FALSE(work.is_moe(0));
  EXPECT_GT(product_flops(work.phase(Kind::mlp, 60, Pass::weight_gradient)), 0);
}

TEST(StepCosts, FastDevicesMakeLogitsInLongerChunks) {
  Cluster cluster;
  cluster.memory_bandwidth = 3.35e12;
  cluster.bf16_peak = 989.5e12;  // 1,181 tokens break even
  EXPECT_EQ(head_chunk_tokens(cluster), 2048);
  cluster.bf16_peak = 1e12;
  EXPECT_EQ(head_chunk_tokens(cluster), 512);
  StepCostSettings settings = v3(Precision::bf16);
  const auto gemms = [&](int64_t chunk) {
    settings.engine.head_chunk_tokens = chunk;
    const ModelWork work = measure_step(settings);
    int64_t count = 0;
    for (const TaskOp& op : work.phase(Kind::head, 60, Pass::forward).ops)
      count += op.cost.op_class == OpClass::linear;
    return count;
  };
  EXPECT_EQ(gemms(512), 3 * 8);
  EXPECT_EQ(gemms(2048), 3 * 2);
}

}  // namespace
}  // namespace strait
