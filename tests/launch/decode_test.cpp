// tests/launch/decode_test.cpp: decoding with the compressed cache against the engine's full
// forward.
#include "core/nn/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "data/huggingface/safetensors.h"
#include "launch/engine/engine.h"
#include "launch/trainer/model_source.h"
#include "parallel/comm/self.h"

namespace strait {
namespace {

constexpr int64_t kLength = 70;  // more than a block of 64 positions

ModelSettings v3_settings() {
  ModelSettings m;
  m.vocab_size = 61;
  m.hidden_size = 36;
  m.num_hidden_layers = 3;
  m.first_k_dense_replace = 1;
  m.initializer_range = 0.2;
  m.num_attention_heads = 3;
  m.q_lora_rank = 14;
  m.kv_lora_rank = 18;
  m.qk_nope_head_dim = 10;
  m.qk_rope_head_dim = 6;
  m.v_head_dim = 12;
  m.intermediate_size = 50;
  m.moe_intermediate_size = 14;
  m.n_routed_experts = 8;
  m.n_shared_experts = 1;
  m.num_experts_per_tok = 3;
  m.n_group = 4;
  m.topk_group = 2;
  m.routed_scaling_factor = 1.5;
  m.num_nextn_predict_layers = 1;  // decoding leaves it out
  return m;
}

ModelSettings yarn_without_query_latent() {
  ModelSettings m = v3_settings();
  m.q_lora_rank = 0;
  m.n_group = m.topk_group = 1;
  m.n_shared_experts = 0;
  m.rope_scaling = {.factor = 8,
                    .original_max_position_embeddings = 16,
                    .beta_fast = 2,
                    .beta_slow = 0.25,
                    .mscale = 1,
                    .mscale_all_dim = 0.7};
  return m;
}

ModelSettings softmax_in_groups() {
  ModelSettings m = v3_settings();
  m.num_nextn_predict_layers = 0;
  m.scoring_func = "softmax";
  m.topk_method = "group_limited_greedy";
  m.norm_topk_prob = false;
  m.routed_scaling_factor = 4;
  m.tie_word_embeddings = true;
  return m;
}

ModelSettings dense() {
  ModelSettings m = v3_settings();
  m.n_routed_experts = m.n_shared_experts = m.num_experts_per_tok = m.moe_intermediate_size = 0;
  m.n_group = m.topk_group = 1;
  m.num_nextn_predict_layers = 0;
  m.num_attention_heads = 5;  // four heads share a call of the kernel
  return m;
}

struct Case {
  const char* name;
  std::function<ModelSettings()> settings;
};

class Decode : public testing::TestWithParam<Case> {
 protected:
  void start(DType compute = DType::f32, int threads = 2) {
    EngineSettings settings;
    settings.model = GetParam().settings();
    settings.formats = compute;
    settings.sequence_length = kLength;
    settings.num_threads = threads;
    comm_ = self_comm();
    engine_ = std::make_unique<Engine>(settings, Mesh(1, 1, 1), Rank{0}, comm_.get(), Device::cpu);
    engine_->initialise(11);
    std::mt19937 generator(5);
    std::uniform_real_distribution<float> around_one(0.5f, 1.5f), around_zero(-0.4f, 0.2f);
    for (Bucket& bucket : engine_->buckets())
      for (const ShardPiece& piece : pieces_of_shard(bucket))
        if (piece.parameter->role == Role::norm)
          for (int64_t i = 0; i < piece.count; ++i)
            bucket.master.data<float>()[piece.shard_offset + i] = around_one(generator);
    for (float& bias : engine_->selection_bias()) bias = around_zero(generator);
    engine_->load_weights();
    tokens_.clear();
    for (int64_t i = 0; i < engine_->window_tokens(); ++i)
      tokens_.push_back(static_cast<int32_t>((i * i * 7 + i * 3 + 1) % 61));
  }

  std::vector<float> logits_of_engine() {
    std::vector<float> logits;
    engine_->watch_logits([&](const Tensor& chunk, int64_t) {
      const auto values = chunk.span<float>();
      logits.insert(logits.end(), values.begin(), values.end());
    });
    engine_->evaluate(tokens_);
    return logits;
  }

  Decoder decoder(int64_t max_positions = kLength) {
    return Decoder(engine_->ctx(), engine_->model(), engine_->selection_bias(), max_positions);
  }

  // The logits of all positions, run in pieces of these sizes, the last one repeated.
  static std::vector<float> logits_of(Decoder& decoder, std::span<const int32_t> tokens,
                                      std::vector<size_t> sizes) {
    std::vector<float> logits;
    for (size_t first = 0, piece = 0; first < tokens.size(); ++piece) {
      const size_t size = std::min(sizes[std::min(piece, sizes.size() - 1)], tokens.size() - first);
      const Tensor part = decoder.run(tokens.subspan(first, size), Decoder::Logits::all);
      const auto values = part.span<float>();
      logits.insert(logits.end(), values.begin(), values.end());
      first += size;
    }
    return logits;
  }

  std::span<const int32_t> prompt() const { return std::span(tokens_).first(kLength); }

  std::unique_ptr<Comm> comm_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> tokens_;
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - b[i]));
  return worst;
}

TEST_P(Decode, LogitsOfTheFullForward) {
  start();
  const std::vector<float> wanted = logits_of_engine();
  ASSERT_EQ(wanted.size(), static_cast<size_t>(kLength * 61));
  double largest = 0;
  for (const float logit : wanted)
    largest = std::max(largest, std::fabs(static_cast<double>(logit)));
  EXPECT_GT(largest, 0.5);  // else the comparison says little
  Decoder once = decoder();
  EXPECT_LE(largest_difference(logits_of(once, prompt(), {kLength}), wanted), 1e-4);
  EXPECT_EQ(once.positions(), kLength);
}

TEST_P(Decode, AnySplitAndAnyThreadsGiveTheSameBits) {
  start();
  Decoder once = decoder();
  const std::vector<float> wanted = logits_of(once, prompt(), {kLength});
  for (const std::vector<size_t>& sizes :
       {std::vector<size_t>{1}, std::vector<size_t>{3, 40, 1, 7}, std::vector<size_t>{64, 1}}) {
    Decoder pieces = decoder();
    EXPECT_EQ(logits_of(pieces, prompt(), sizes), wanted);
  }
  start(DType::f32, 1);
  Decoder one_thread = decoder();
  EXPECT_EQ(logits_of(one_thread, prompt(), {5}), wanted);
}

TEST_P(Decode, ALongPromptRunsInChunks) {
  start();
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 300; ++i) tokens.push_back((i * i + 7 * i) % 61);
  Decoder at_once = decoder(300), by_call = decoder(300);
  EXPECT_EQ(logits_of(at_once, tokens, {300}), logits_of(by_call, tokens, {100}));
  at_once.rewind(0);
  const Tensor last = at_once.run(tokens);
  by_call.rewind(299);
  const Tensor again = by_call.run(std::span<const int32_t>(tokens).last(1));
  EXPECT_TRUE(std::ranges::equal(last.span<float>(), again.span<float>()));
}

TEST_P(Decode, LastLogitsAndRewind) {
  start();
  Decoder all = decoder(), last = decoder();
  const std::vector<float> wanted = logits_of(all, prompt(), {kLength});
  const auto last_row = [&](std::span<const int32_t> tokens) {
    const Tensor logits = last.run(tokens);
    EXPECT_EQ(logits.rows(), 1);
    const auto values = logits.span<float>();
    return std::vector<float>(values.begin(), values.end());
  };
  const std::vector<float> end(wanted.end() - 61, wanted.end());
  EXPECT_EQ(last_row(prompt()), end);
  last.rewind(20);
  EXPECT_EQ(last_row(prompt().subspan(20)), end);
  last.rewind(10);
  EXPECT_NE(last_row(prompt().subspan(20)), end);  // other positions
}

TEST_P(Decode, Bf16StaysClose) {
  start(DType::bf16);
  const std::vector<float> wanted = logits_of_engine();
  Decoder narrow = decoder();
  const std::vector<float> got = logits_of(narrow, prompt(), {9});
  double squares = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    squares += std::pow(static_cast<double>(got[i]) - wanted[i], 2);
    norm += std::pow(static_cast<double>(wanted[i]), 2);
  }
  EXPECT_LE(std::sqrt(squares / norm), 0.1);  // routing may flip for some token
}

TEST_P(Decode, CacheHoldsLatentAndRotatedKeyOnly) {
  start();
  EXPECT_EQ(decoder(40).cache_bytes(), (18 + 6) * 40 * 3 * 4);
  start(DType::bf16);
  EXPECT_EQ(decoder(40).cache_bytes(), (18 + 6) * 40 * 3 * 2);
}

TEST_P(Decode, RefusesWhatDoesNotFit) {
  start();
  Decoder small = decoder(8);
  EXPECT_THROW(small.run(prompt().first(9)), InternalError);
  small.run(prompt().first(8));
  EXPECT_THROW(small.run(prompt().first(1)), InternalError);
  small.rewind(0);
  EXPECT_THROW(small.run(std::vector<int32_t>{61}), DataError);
}

// Models that `transformers` made, and the logits it gives them (tests/oracle).
class GoldenDecode : public testing::TestWithParam<const char*> {};

TEST_P(GoldenDecode, LogitsOfTransformers) {
  const std::string folder = std::string(STRAIT_SOURCE_DIR "/tests/oracle/golden/") + GetParam();
  const huggingface::SafetensorsFile expected(folder + "/expected.safetensors");
  const std::vector<int64_t> shape = expected.tensor("logits").shape;  // [B, S, V]
  std::vector<int32_t> ids(static_cast<size_t>(shape[0] * shape[1]));
  expected.read_raw("input_ids", 0, std::as_writable_bytes(std::span(ids)));
  ModelSource source(folder);
  const auto engine = load_engine(source, {});
  Decoder decoder(engine->ctx(), engine->model(), engine->selection_bias(), shape[1]);
  double worst = 0;
  for (int64_t sequence = 0; sequence < shape[0]; ++sequence) {
    decoder.rewind(0);
    for (int64_t position = 0; position < shape[1]; ++position) {
      const int64_t row = sequence * shape[1] + position;
      const Tensor logits = decoder.run(std::span(ids).subspan(static_cast<size_t>(row), 1));
      std::vector<float> wanted(static_cast<size_t>(shape[2]));
      expected.read("logits", row * shape[2], wanted);
      for (size_t i = 0; i < wanted.size(); ++i)
        worst =
            std::max(worst, std::fabs(static_cast<double>(logits.data<float>()[i]) - wanted[i]));
    }
  }
  EXPECT_LE(worst, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Transformers, GoldenDecode,
                         testing::Values("v3_full", "v3_no_q_lora", "v2_softmax", "v2_lite",
                                         "odd_sizes", "dense_tied", "mtp_balance"),
                         [](const auto& info) { return std::string(info.param); });

INSTANTIATE_TEST_SUITE_P(Shapes, Decode,
                         testing::Values(Case{"Sigmoid", v3_settings},
                                         Case{"YarnWithoutQueryLatent", yarn_without_query_latent},
                                         Case{"SoftmaxInGroups", softmax_in_groups},
                                         Case{"Dense", dense}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace strait
