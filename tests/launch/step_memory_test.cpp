#include "launch/plan/step_memory.h"

#include <gtest/gtest.h>

#include "launch/engine/engine_settings.h"
#include "launch/plan/step_buckets.h"
#include "launch/plan/step_costs.h"
#include "launch/trainer/prediction.h"
#include "parallel/program/build.h"
#include "recipes/recipe.h"

namespace strait {
namespace {

Schedule one_position(int num_microbatches) {
  Schedule schedule;
  schedule.num_microbatches = num_microbatches;
  schedule.num_stages = 1;
  schedule.chunks = {{{0, 0}}};
  schedule.slots.emplace_back();
  for (int m = 0; m < num_microbatches; ++m) {
    schedule.slots[0].push_back({.work = Work::forward, .microbatch = m});
    schedule.slots[0].push_back({.work = Work::backward, .microbatch = m});
  }
  return schedule;
}

// A recipe on a pipeline of one position, from the parts: phases of one layer of each kind, bucket
// sizes, program.
MemoryUse composed(const Recipe& recipe, int64_t ranks) {
  const int64_t expert = recipe.parallel.expert;
  const EngineSettings engine =
      engine_settings(recipe, Mesh(static_cast<int>(ranks), 1, static_cast<int>(expert)), 1);
  const Precision precision = engine.compute == DType::f32 ? Precision::fp32 : Precision::bf16;
  ModelWork work = measure_step(
      {.engine = engine, .precision = precision, .expert = expert, .ranks_per_node = ranks});
  const int layers = static_cast<int>(work.like.size());
  work.stages = {{.first_layer = 0, .end_layer = layers, .embeds = true, .has_head = true}};
  work.buckets = step_buckets({.model = recipe.model,
                               .precision = precision,
                               .data = ranks,
                               .expert = expert,
                               .ranks_per_node = ranks},
                              one_position(2), work.stages)
                     .work;
  ProgramInput input;
  input.num_hidden_layers = work.num_hidden_layers;
  input.has_shared_experts = recipe.model.n_shared_experts > 0;
  input.exchanges = expert > 1;
  for (int layer = 0; layer < layers; ++layer) input.layer_is_moe.push_back(work.is_moe(layer));
  return peak_memory(work, build_training_program(input, 2, false));
}

// The prediction runs all layers and both steps on `meta`; the composed one only one layer of each
// kind.
TEST(StepMemory, AgreesWithTheWholeModelOnMeta) {
  for (const std::string name : {"quickstart", "bench"}) {
    for (const int64_t expert : {1, 2, 4}) {
      for (const char* precision : {"bf16", "fp32"}) {
        for (const char* recompute : {"[]", "[norms, mla_up, swiglu]"}) {
          const Recipe recipe = load_recipe(STRAIT_SOURCE_DIR "/recipes/" + name + ".yaml",
                                            {"parallel.expert=" + std::to_string(expert),
                                             std::string("train.precision=") + precision,
                                             std::string("train.recompute=") + recompute});
          const std::string text =
              name + " " + std::to_string(expert) + " " + precision + " " + recompute;
          const MemoryUse whole = predict(recipe, 4).memory, parts = composed(recipe, 4);
          EXPECT_NEAR(double(parts.total()), double(whole.total()), 0.01 * double(whole.total()))
              << text;
          // The RoPE table, the routing's counters and where exactly shards end are left out.
          for (int p = 0; p < kNumPurposes; ++p)
            EXPECT_NEAR(double(parts.bytes[size_t(p)]), double(whole.bytes[size_t(p)]),
                        0.005 * double(whole.total()))
                << text << ": " << name_of(Purpose(p));
        }
      }
    }
  }
}

}  // namespace
}  // namespace strait
