// tests/launch/golden_test.cpp: the engine against models that `transformers` made (tests/oracle).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>

#include "data/huggingface/config_json.h"
#include "data/huggingface/safetensors.h"
#include "launch/engine/engine.h"
#include "parallel/comm/self.h"

namespace strait {
namespace {

using huggingface::SafetensorsFile;

std::vector<float> read_all(const SafetensorsFile& file, const std::string& name) {
  std::vector<float> values(static_cast<size_t>(file.tensor(name).numel()));
  file.read(name, 0, values);
  return values;
}

std::vector<int32_t> read_ints(const SafetensorsFile& file, const std::string& name) {
  std::vector<int32_t> values(static_cast<size_t>(file.tensor(name).numel()));
  file.read_raw(name, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

// Of an unused tensor nothing but zeros is expected: then any difference is infinite.
double relative_error(std::span<const float> got, const std::vector<float>& wanted) {
  if (got.size() != wanted.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - wanted[i], 2);
    norm += std::pow(static_cast<double>(wanted[i]), 2);
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

class Golden : public testing::TestWithParam<const char*> {
 protected:
  std::string folder() const {
    return std::string(STRAIT_SOURCE_DIR "/tests/oracle/golden/") + GetParam();
  }

  // One rank, FP32, the whole batch as one micro-batch.
  void start() {
    std::ifstream in(folder() + "/config.json");
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    settings_.model = huggingface::from_config_json(text, folder() + "/config.json");
    const bool mtp = std::string(GetParam()) == "mtp_balance";
    settings_.model.num_nextn_predict_layers = mtp ? 1 : 0;
    settings_.optimizer = {
        .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_clip_norm = 0};
    settings_.balance.bias_update_speed = 0;
    settings_.balance.sequence_loss_alpha = mtp ? 0.05 : 0;
    settings_.mtp.loss_weight = 0.3;
    const auto& shape = expected_->tensor("input_ids").shape;
    settings_.micro_batch = shape[0];
    settings_.sequence_length = shape[1];
    comm_ = self_comm();
    engine_ = std::make_unique<Engine>(settings_, Mesh(1, 1, 1), Rank{0}, comm_.get(), Device::cpu);
    const SafetensorsFile weights(folder() + "/model.safetensors");
    for (Bucket& bucket : engine_->buckets())
      for (const ShardPiece& piece : pieces_of_shard(bucket))
        weights.read(piece.part->name, piece.offset,
                     bucket.master.span<float>().subspan(static_cast<size_t>(piece.shard_offset),
                                                         static_cast<size_t>(piece.count)));
    const auto experts = static_cast<size_t>(settings_.model.n_routed_experts);
    for (int64_t layer = 0; layer < engine_->model().num_layers(); ++layer) {
      const LayerParameters& parameters = engine_->model().layers[static_cast<size_t>(layer)];
      if (!parameters.is_moe || settings_.model.topk_method != "noaux_tc") continue;
      const std::vector<float> bias =
          read_all(weights, selection_bias_name(engine_->model(), layer));
      std::copy(
          bias.begin(), bias.end(),
          engine_->selection_bias().begin() + parameters.moe_index * static_cast<int64_t>(experts));
    }
    engine_->load_weights();
  }

  // Compares every tensor of `prefix` in the file with the same stretch of a bucket's flat storage.
  void compare(const std::string& prefix, bool gradients, double tolerance) {
    std::set<std::string> compared;
    for (Bucket& bucket : engine_->buckets()) {
      const auto flat = gradients ? bucket.gradients.span<float>() : bucket.master.span<float>();
      for (const ShardPiece& piece : pieces_of_shard(bucket)) {
        const std::string name = prefix + piece.part->name;
        EXPECT_TRUE(compared.insert(name).second) << name;
        EXPECT_LE(relative_error(flat.subspan(static_cast<size_t>(piece.shard_offset),
                                              static_cast<size_t>(piece.count)),
                                 read_all(*expected_, name)),
                  tolerance)
            << name;
      }
    }
    std::set<std::string> wanted;
    for (const auto& [name, tensor] : expected_->tensors())
      if (name.rfind(prefix, 0) == 0) wanted.insert(name);
    EXPECT_EQ(compared, wanted);
  }

  float scalar(const std::string& name) const { return read_all(*expected_, name).at(0); }

  // What the first step says of its losses and of where the tokens went.
  void compare_totals(const StepTotals& totals) {
    EXPECT_NEAR(totals.loss(), scalar("main_loss"), 1e-5);
    double balance = 0;
    size_t moe_layers = 0;
    const auto experts = static_cast<size_t>(settings_.model.n_routed_experts);
    for (int64_t layer = 0; layer < engine_->model().num_layers(); ++layer) {
      const std::string number = std::to_string(layer);
      if (expected_->tensors().contains("balance_loss." + number))
        balance += scalar("balance_loss." + number);
      if (!expected_->tensors().contains("expert_counts." + number)) continue;
      const std::vector<int32_t> counts = read_ints(*expected_, "expert_counts." + number);
      ASSERT_EQ(counts.size(), experts);
      ASSERT_LE((moe_layers + 1) * experts, totals.expert_counts.size());
      for (size_t e = 0; e < experts; ++e)
        EXPECT_EQ(totals.expert_counts[moe_layers * experts + e], counts[e]) << layer << " " << e;
      ++moe_layers;
    }
    EXPECT_EQ(moe_layers * experts, totals.expert_counts.size());
    if (settings_.model.num_nextn_predict_layers > 0) {
      EXPECT_NEAR(totals.mtp_loss(), scalar("mtp_loss"), 1e-5);
    }
    if (settings_.balance.sequence_loss_alpha > 0) {
      EXPECT_GT(balance, 0);
      EXPECT_NEAR(totals.balance_loss, settings_.balance.sequence_loss_alpha * balance, 1e-5);
    }
  }

  void SetUp() override {
    expected_ = std::make_unique<SafetensorsFile>(folder() + "/expected.safetensors");
    start();
  }

  EngineSettings settings_;
  std::unique_ptr<SafetensorsFile> expected_;
  std::unique_ptr<Comm> comm_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(Golden, LogitsLossGradientsAndFiveSteps) {
  const std::vector<int32_t> windows = read_ints(*expected_, "tokens");
  const std::vector<float> wanted = read_all(*expected_, "logits");
  double worst = 0;
  size_t seen = 0;
  engine_->watch_logits([&](const Tensor& logits, int64_t first) {
    const size_t start = static_cast<size_t>(first * logits.cols());
    for (size_t i = 0; i < static_cast<size_t>(logits.numel()); ++i)
      worst = std::max(worst,
                       static_cast<double>(std::fabs(logits.data<float>()[i] - wanted[start + i])));
    seen += static_cast<size_t>(logits.numel());
  });
  const Engine::Evaluation evaluation = engine_->evaluate(windows);
  EXPECT_EQ(seen, wanted.size());
  EXPECT_LE(worst, 1e-4);
  EXPECT_NEAR(evaluation.nll / evaluation.targets, scalar("main_loss"), 1e-5);

  EXPECT_FALSE(engine_->run_step(windows, 0).has_value());
  compare("grad.", true, 1e-4);
  for (int step = 2; step <= 5; ++step) {
    const std::optional<StepTotals> totals = engine_->run_step(windows, 1e-3);
    ASSERT_TRUE(totals.has_value());
    if (step == 2) compare_totals(*totals);
  }
  const std::optional<StepTotals> last = engine_->settle(1e-3);
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(engine_->committed_steps(), 5);
  compare("after5.", false, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Transformers, Golden,
                         testing::Values("v3_full", "v3_no_q_lora", "v2_softmax", "v2_lite",
                                         "odd_sizes", "dense_tied", "mtp_balance"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace strait
