#include "launch/plan/step_memory.h"

#include <gtest/gtest.h>

#include "launch/engine/engine_settings.h"
#include "launch/plan/step_buckets.h"
#include "launch/plan/step_costs.h"
#include "launch/trainer/prediction.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/program/lower.h"
#include "recipes/recipe.h"

namespace strait {
namespace {

struct Step {
  ModelWork work;
  StepShape shape;
  Schedule schedule;
};

// A step from its parts: phases of one layer of each kind, bucket sizes, programs.
Step composed(const EngineSettings& engine, Precision precision, const Schedule& schedule,
              std::vector<StageLayers> stages, int64_t data, int64_t expert) {
  Step step{
      .work = measure_step(
          {.engine = engine, .precision = precision, .expert = expert, .ranks_per_node = data}),
      .shape = {},
      .schedule = schedule};
  ModelWork& work = step.work;
  StepShape& shape = step.shape;
  work.stages = shape.stages = std::move(stages);
  const StepBuckets buckets = step_buckets({.model = engine.model,
                                            .precision = precision,
                                            .data = data,
                                            .expert = expert,
                                            .ranks_per_node = data},
                                           schedule, shape.stages);
  work.buckets = buckets.work;
  shape.buckets = buckets.shapes;
  shape.num_hidden_layers = work.num_hidden_layers;
  shape.has_shared_experts = engine.model.n_shared_experts > 0;
  shape.exchanges = expert > 1;
  shape.microbatch_rows = work.tokens;
  shape.exchange_capacity_rows = work.tokens * expert;
  for (size_t layer = 0; layer < work.like.size(); ++layer)
    shape.layer_is_moe.push_back(work.is_moe(static_cast<int>(layer)));
  return step;
}

Precision precision_of(const Recipe& recipe) {
  return recipe.train.precision == "fp32"   ? Precision::fp32
         : recipe.train.precision == "bf16" ? Precision::bf16
                                            : Precision::fp8;
}

MemoryUse on_one_position(const Recipe& recipe, int64_t ranks) {
  const int64_t expert = recipe.parallel.expert;
  const EngineSettings engine =
      engine_settings(recipe, Mesh(static_cast<int>(ranks), 1, static_cast<int>(expert)), 1);
  const int layers =
      static_cast<int>(recipe.model.num_hidden_layers + recipe.model.num_nextn_predict_layers);
  const Step step =
      composed(engine, precision_of(recipe), schedule_1f1b({.microbatches = 2}),
               {{.end_layer = layers, .embeds = true, .has_head = true}}, ranks, expert);
  return peak_memory(step.work, lower_step(step.shape, step.schedule, true).front());
}

// The prediction runs all layers and both steps on `meta`; the composed one only one layer of each
// kind.
TEST(StepMemory, AgreesWithTheWholeModelOnMeta) {
  for (const std::string name : {"quickstart", "bench"}) {
    for (const int64_t expert : {1, 2, 4}) {
      for (const std::string precision : {"bf16", "fp32", "fp8"}) {
        for (const char* recompute : {"[]", "[norms, mla_up, swiglu]"}) {
          const Recipe recipe = load_recipe(
              STRAIT_SOURCE_DIR "/recipes/" + name + ".yaml",
              {"parallel.expert=" + std::to_string(expert), "train.precision=" + precision,
               std::string("train.recompute=") + recompute});
          const std::string text =
              name + " " + std::to_string(expert) + " " + precision + " " + recompute;
          const MemoryUse whole = predict(recipe, 4).memory.front(),
                          parts = on_one_position(recipe, 4);
          // A GPU keeps the codes of weights that it multiplies, made from gathered ones; the CPU
          // keeps the weights, and packs what the codes stand for.
          const auto differs = [&](Purpose purpose) {
            return precision == "fp8" &&
                   (purpose == Purpose::weights || purpose == Purpose::packed_weights ||
                    purpose == Purpose::communication);
          };
          if (precision != "fp8") {
            EXPECT_NEAR(double(parts.total()), double(whole.total()), 0.01 * double(whole.total()))
                << text;
          }
          // The RoPE table, the routing's counters and where exactly shards end are left out.
          for (int p = 0; p < kNumPurposes; ++p) {
            if (differs(Purpose(p))) continue;
            EXPECT_NEAR(double(parts.bytes[size_t(p)]), double(whole.bytes[size_t(p)]),
                        0.005 * double(whole.total()))
                << text << ": " << name_of(Purpose(p));
          }
        }
      }
    }
  }
}

// A model of 8 layers (the first dense) and the MTP module, on 4 stages.
EngineSettings small_engine() {
  Recipe recipe = load_recipe(STRAIT_SOURCE_DIR "/recipes/quickstart.yaml");
  recipe.model.num_hidden_layers = 8;
  return engine_settings(recipe, Mesh(4, 1, 2), 1);
}
std::vector<StageLayers> four_stages() {
  return {{0, 3, true, false}, {3, 5, false, false}, {5, 7, false, false}, {7, 9, false, true}};
}

// Whatever the schedule, memory rises to the schedule's peak and no further: twice the
// micro-batches need the same.
TEST(StepMemory, DoesNotGrowWithTheNumberOfMicrobatches) {
  for (const char* name : {"1f1b", "zb1p", "dualpipe"}) {
    const auto peaks = [&](int microbatches) {
      const Step step = composed(
          small_engine(), Precision::bf16,
          make_schedule(name, {.positions = 4, .microbatches = microbatches}), four_stages(), 4, 2);
      std::vector<int64_t> totals;
      for (const Program& program : lower_step(step.shape, step.schedule, true))
        totals.push_back(peak_memory(step.work, program).total());
      return totals;
    };
    const std::vector<int64_t> few = peaks(16), many = peaks(48);
    for (size_t position = 0; position < few.size(); ++position)
      EXPECT_NEAR(double(many[position]), double(few[position]), 1e-3 * double(few[position]))
          << name << " position " << position;
  }
}

// The stages' weights are the model's; with two copies of each, twice that.
TEST(StepMemory, PositionsShareTheModel) {
  const int64_t parameters = count_parameters(small_engine().model).total;
  for (const char* name : {"1f1b", "dualpipe"}) {
    const int copies = std::string(name) == "dualpipe" ? 2 : 1;
    const Step step =
        composed(small_engine(), Precision::bf16,
                 make_schedule(name, {.positions = 4, .microbatches = 8}), four_stages(), 4, 2);
    int64_t gradients = 0, experts = 0, embedding = 0;
    for (size_t position = 0; position < step.work.buckets.size(); ++position)
      for (size_t bucket = 0; bucket < step.work.buckets[position].size(); ++bucket) {
        const BucketWork& work = step.work.buckets[position][bucket];
        const BucketShape& shape = step.shape.buckets[position][bucket];
        const bool is_experts = shape.name.ends_with("experts");
        (is_experts ? experts : gradients) += work.numel;
        if (shape.name == "embedding") {
          embedding = work.numel;
          EXPECT_EQ(shape.positions, std::vector<int>{position == 0 ? 3 : 0});
        }
        const int64_t ranks = is_experts ? 4 / 2 : 4;
        EXPECT_EQ(work.replicas, ranks * (1 + int64_t(shape.positions.size())));
        if (copies == 2) {
          EXPECT_EQ(shape.positions, std::vector<int>{3 - int(position)});
        }
      }
    // Half of the experts are on each of two ranks; the MTP module's position has a copy of the
    // embedding.
    const int64_t more = copies == 1 ? embedding : 0;
    EXPECT_EQ(gradients + 2 * experts, copies * parameters + more) << name;
  }
}

// What validate.h's count keeps alive is the activations of as many chunks as the schedule says.
TEST(StepMemory, KeptBytesMatchTheSchedulesPeak) {
  const Step step =
      composed(small_engine(), Precision::bf16, schedule_1f1b({.positions = 4, .microbatches = 8}),
               four_stages(), 4, 2);
  const std::vector<Program> programs = lower_step(step.shape, step.schedule, true);
  int64_t of_chunk = 0;  // a middle position's micro-batch after its forward
  for (const Task& task : programs[1].tasks)
    if (task.microbatch == 0 && task.pass == Pass::forward && task.lane == Lane::compute) {
      const KeptBytes kept = kept_bytes(step.work, task);
      of_chunk += kept.until_input_gradient + kept.until_weight_gradient;
    }
  EXPECT_GT(of_chunk, 0);
  const PeakUse peak =
      peak_use(programs[1], [&](const Task& task) { return kept_bytes(step.work, task); });
  EXPECT_EQ(peak.microbatches, 3);
  EXPECT_GT(peak.bytes, 2 * of_chunk);
  EXPECT_LT(peak.bytes, 5 * of_chunk);
}

}  // namespace
}  // namespace strait
