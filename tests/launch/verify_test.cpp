// tests/launch/verify_test.cpp: layouts of 2, 3 and 4 ranks against one rank, and errors that each
// gate must catch.
#include "launch/commands/verify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "data/corpus/corpus_writer.h"
#include "launch/commands/verify_windows.h"
#include "parallel/comm/self.h"
#include "tests/launch/tiny_verify.h"

namespace strait {
namespace {

using test::gate_of;
using test::tiny_recipe;
using test::verify_on;

struct Case {
  int ranks, expert;
  const char *precision, *wire;
  int ranks_per_node = 0;
  const char* exchange = "auto";
};

class Verify : public testing::TestWithParam<Case> {};

TEST_P(Verify, GatesHold) {
  const auto [ranks, expert, precision, wire, ranks_per_node, exchange] = GetParam();
  Recipe recipe = tiny_recipe(expert, precision, wire);
  recipe.parallel.exchange = exchange;
  recipe.parallel.exchange_chunks = 3;
  const VerifyReport report =
      verify_on(ranks, recipe, {.steps = 3, .free_steps = 4}, ranks_per_node);
  EXPECT_TRUE(report.passed()) << to_table(report);
  for (const Gate& gate : report.gates) EXPECT_TRUE(gate.seen) << gate.name;
  EXPECT_EQ(report.choices, 3 * 12 * 16 * 3 * 3);  // steps, sequences, tokens, MoE layers, top 3
  EXPECT_EQ(report.free_run.size(), 4u);
  EXPECT_NEAR(report.free_run[3].loss, report.free_run[3].reference_loss, 0.05);
  EXPECT_EQ(gate_of(report, "expert sums").gates(),
            expert == 1 || std::string(wire) == "fp32" || std::string(precision) == "fp32");
}

// With an FP32 wire every row's codes and scales are those of one rank, so forward has its bits.
TEST(VerifyFp8, ForwardHasTheBitsOfOneRank) {
  for (const int ranks_per_node : {0, 2}) {
    const VerifyReport report =
        verify_on(4, tiny_recipe(4, "fp8", "fp32"), {.steps = 2, .free_steps = 0}, ranks_per_node);
    EXPECT_EQ(report.flips, 0);
    EXPECT_EQ(gate_of(report, "router logits").worst, 0);
    EXPECT_EQ(gate_of(report, "loss").worst, 0);
    EXPECT_GT(gate_of(report, "gradients").worst, 0);  // other tokens share tiles of 128
  }
}

INSTANTIATE_TEST_SUITE_P(
    Local, Verify,
    testing::Values(
        Case{2, 1, "fp32", "auto"}, Case{2, 2, "fp32", "auto"}, Case{3, 1, "fp32", "auto"},
        Case{4, 1, "fp32", "auto"}, Case{4, 2, "fp32", "auto"}, Case{4, 4, "fp32", "auto"},
        Case{2, 2, "bf16", "auto"}, Case{3, 1, "bf16", "auto"}, Case{4, 2, "bf16", "auto"},
        Case{4, 4, "bf16", "auto"}, Case{4, 4, "bf16", "fp32"}, Case{4, 4, "fp32", "auto", 2},
        Case{4, 4, "bf16", "auto", 2}, Case{4, 4, "bf16", "fp32", 2}, Case{2, 2, "fp8", "auto"},
        Case{3, 1, "fp8", "auto"}, Case{4, 4, "fp8", "auto", 2}, Case{4, 2, "fp8", "fp32"},
        Case{4, 4, "fp8", "fp32", 2}, Case{4, 4, "fp32", "auto", 2, "flat"},
        Case{4, 4, "fp32", "auto", 1, "two_tier"}),
    [](const auto& info) {
      const Case& c = info.param;
      return "Ranks" + std::to_string(c.ranks) + "Expert" + std::to_string(c.expert) + c.precision +
             (std::string("auto") == c.wire ? "" : std::string("Wire") + c.wire) +
             (c.ranks_per_node == 0 ? "" : "PerNode" + std::to_string(c.ranks_per_node)) +
             (std::string("auto") == c.exchange ? "" : c.exchange);
    });

TEST(VerifyCatches, OneGradientOnOneRank) {
  std::string tampered;
  const auto report = verify_on(
      3, tiny_recipe(1, "fp32"),
      {.steps = 2,
       .free_steps = 0,
       .tamper = [&](VerifyMoment moment, int64_t step, Engine& layout, Rank rank) {
         if (moment != VerifyMoment::summed || step != 1 || rank.value != 2) return;
         const Bucket& bucket = layout.buckets().back();
         const ShardPiece piece = pieces_of_shard(bucket).at(0);
         for (int64_t i = 0; i < piece.count; ++i)
           bucket.gradients.data<float>()[bucket.shard_begin() + piece.shard_offset + i] *= 1.001f;
         tampered = piece.part->name;
       }});
  const Gate& gradients = gate_of(report, "gradients");
  EXPECT_FALSE(gradients.held());
  EXPECT_LT(gradients.worst, 2e-3);
  EXPECT_EQ(gradients.where, tampered + " (MTP module, rank 2, step 2)");
  EXPECT_TRUE(gate_of(report, "loss").held());
  EXPECT_TRUE(gate_of(report, "routes").held());
}

TEST(VerifyCatches, AnUpdateWithAnotherMoment) {
  const auto report =
      verify_on(2, tiny_recipe(2, "fp32"),
                {.steps = 2,
                 .free_steps = 0,
                 .tamper = [](VerifyMoment moment, int64_t step, Engine& layout, Rank rank) {
                   if (moment != VerifyMoment::summed || step != 1 || rank.value != 1) return;
                   Bucket& bucket = layout.buckets().back();
                   for (float& m : bucket.first_moment.span<float>()) m *= 1.1f;
                 }});
  EXPECT_TRUE(gate_of(report, "gradients").held()) << to_table(report);
  EXPECT_FALSE(gate_of(report, "update").held());
  EXPECT_NE(gate_of(report, "update").where.find("MTP module, rank 1, step 2"), std::string::npos);
}

TEST(VerifyCatches, OneExpertWithOtherWeights) {
  const auto report =
      verify_on(2, tiny_recipe(2, "fp32"),
                {.steps = 1,
                 .free_steps = 0,
                 .tamper = [](VerifyMoment moment, int64_t, Engine& layout, Rank rank) {
                   if (moment != VerifyMoment::loaded) return;
                   Parameter& down = *layout.model().layers[1].experts_down;
                   if (rank.value == 1) down.weight.data<float>()[0] += 1e-3f;
                   down.packed.pack(layout.ctx(), down.weight, down.dtype);
                 }});
  const Gate& sums = gate_of(report, "expert sums");
  EXPECT_FALSE(sums.held());
  EXPECT_EQ(sums.where.find("layer 1, "), 0u) << sums.where;
  EXPECT_FALSE(gate_of(report, "loss").held() && gate_of(report, "gradients").held());
}

TEST(VerifyCatches, ABiasThatOnlyOneRankHas) {
  const auto report =
      verify_on(3, tiny_recipe(1, "fp32"),
                {.steps = 1,
                 .free_steps = 0,
                 .tamper = [](VerifyMoment moment, int64_t, Engine& layout, Rank rank) {
                   if (moment != VerifyMoment::loaded) return;
                   if (rank.value == 1) layout.selection_bias()[2] += 0.05f;  // layer 1, expert 2
                   layout.load_weights();
                 }});
  EXPECT_FALSE(gate_of(report, "routes").held());
  EXPECT_EQ(gate_of(report, "routes").where.find("layer 1, rank 1, step 1"), 0u)
      << gate_of(report, "routes").where;
  EXPECT_GT(report.flips, 0);
  EXPECT_EQ(gate_of(report, "router logits").worst, 0);  // replayed: nothing else differs
  EXPECT_TRUE(gate_of(report, "gradients").held()) << to_table(report);
  EXPECT_FALSE(gate_of(report, "selection bias").held());
}

TEST(VerifyCatches, ARunWithOtherBits) {
  const auto report =
      verify_on(2, tiny_recipe(1, "bf16"),
                {.steps = 2,
                 .free_steps = 1,
                 .tamper = [](VerifyMoment moment, int64_t, Engine& layout, Rank rank) {
                   if (moment == VerifyMoment::repeated && rank.value == 1)
                     layout.buckets()[0].second_moment.data<float>()[0] += 1.0f;
                 }});
  const Gate& twice = gate_of(report, "same layout twice");
  EXPECT_EQ(twice.worst, 1);
  EXPECT_NE(twice.where.find("rank 1"), std::string::npos);
  for (const Gate& gate : report.gates) EXPECT_EQ(gate.held(), &gate != &twice) << gate.name;
}

TEST(VerifyCatches, AnotherRouter) {
  const auto report = verify_on(2, tiny_recipe(2, "fp32"),
                                {.steps = 1,
                                 .free_steps = 0,
                                 .tamper = [](VerifyMoment moment, int64_t, Engine& layout, Rank) {
                                   if (moment != VerifyMoment::loaded) return;
                                   Parameter& router = *layout.model().layers[2].router;
                                   for (float& weight : router.weight.span<float>())
                                     weight *= 1.01f;
                                   router.packed.pack(layout.ctx(), router.weight, router.dtype);
                                 }});
  EXPECT_TRUE(
      gate_of(report, "routes").held());  // the logits explain the choices, but they are others
  EXPECT_NEAR(gate_of(report, "router logits").worst, 0.01, 1e-3);
  EXPECT_FALSE(gate_of(report, "router logits").held());
}

TEST(Verify, OneRankAgainstItself) {
  const auto comm = self_comm();
  const VerifyReport report = verify(tiny_recipe(1, "fp32"), {.steps = 1, .free_steps = 0}, *comm);
  EXPECT_TRUE(report.passed());
  for (const Gate& gate : report.gates) EXPECT_EQ(gate.worst, 0) << gate.name;
}

TEST(Verify, ModelsWithoutRoutingAndWithV2s) {
  Recipe dense = tiny_recipe(1, "fp32");
  dense.model.n_routed_experts = dense.model.n_shared_experts = dense.model.num_experts_per_tok = 0;
  dense.model.n_group = dense.model.topk_group = 1;
  dense.balance = {.bias_update_speed = 0, .sequence_loss_alpha = 0};
  const VerifyReport report = verify_on(2, dense, {.steps = 2, .free_steps = 0});
  EXPECT_TRUE(report.passed()) << to_table(report);
  EXPECT_FALSE(gate_of(report, "expert sums").seen);

  Recipe v2 = tiny_recipe(4, "bf16");
  v2.model.scoring_func = "softmax";
  v2.model.topk_method = "group_limited_greedy";
  v2.model.num_nextn_predict_layers = 0;
  v2.balance.bias_update_speed = 0;
  const VerifyReport of_v2 = verify_on(4, v2, {.steps = 2, .free_steps = 0});
  EXPECT_TRUE(of_v2.passed()) << to_table(of_v2);
}

TEST(Verify, RefusesALayoutThatDoesNotFit) {
  EXPECT_THROW(run_ranks(3, [](Rank, Comm& comm) { verify(tiny_recipe(2, "fp32"), {}, comm); }),
               Error);
}

class VerifyFiles : public testing::Test {
 protected:
  VerifyFiles() : folder_(std::filesystem::path(testing::TempDir()) / "strait_verify_test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~VerifyFiles() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(VerifyFiles, TheCommandReadsARecipeAndPrints) {
  const std::string file = (folder_ / "tiny.yaml").string();
  Recipe recipe = tiny_recipe(2, "fp32");
  recipe.data.corpus = (folder_ / "none").string();
  std::ofstream(file) << to_yaml(recipe);
  ASSERT_NO_THROW(load_recipe(file));
  testing::internal::CaptureStdout();
  const int code = run_verify({.recipe = file,
                               .overrides = {"train.global_batch=4"},
                               .steps = 1,
                               .free_steps = 1,
                               .ranks = {.local_ranks = 2},
                               .json = true});
  const std::string printed = testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, 0);
  EXPECT_EQ(
      printed.find(
          R"({"kind":"verify","recipe":"tiny","ranks":2,"pipeline":1,"schedule":"1f1b","pairs":false,"expert":2,"precision":"fp32")"),
      0u)
      << printed;
  EXPECT_NE(printed.find(R"("sequences":4)"), std::string::npos);
  EXPECT_NE(printed.find(R"("passed":true})"), std::string::npos);
  EXPECT_THROW(run_verify({.recipe = file, .overrides = {}, .steps = 0}), RecipeError);
}

TEST_F(VerifyFiles, WindowsAreThoseOfTraining) {
  Recipe recipe = tiny_recipe(1, "fp32");
  const VerifyWindows made_up(recipe);
  EXPECT_EQ(made_up.source(), "made-up tokens");
  EXPECT_EQ(made_up.of_step(1), made_up.of_step(1));
  EXPECT_NE(made_up.of_step(1), made_up.of_step(2));
  for (const int32_t token : made_up.of_step(0))
    EXPECT_TRUE(token >= 0 && token < recipe.model.vocab_size);

  std::vector<int32_t> document(500);
  for (size_t i = 0; i < document.size(); ++i) document[i] = static_cast<int32_t>(i * i % 150);
  CorpusWriter writer((folder_ / "corpus.h5").string(), {.vocab_size = 160, .eos_id = 159}, 0);
  writer.add(Split::train, document, 500);
  writer.add(Split::held_out, document, 500);
  writer.finish();
  recipe.data.corpus = folder_.string();
  const std::vector<int32_t> windows = VerifyWindows(recipe).of_step(2);
  const Corpus corpus(recipe.data.corpus);
  const Sampler sampler(corpus, 16, 2, static_cast<uint64_t>(recipe.train.seed));
  std::vector<int32_t> window(18);
  for (int64_t i = 0; i < 12; ++i) {
    sampler.sample(2 * 12 + i, window);
    EXPECT_TRUE(std::equal(window.begin(), window.end(), windows.begin() + i * 18)) << i;
  }
  EXPECT_TRUE(verify_on(3, recipe, {.steps = 1, .free_steps = 0}).passed());
  recipe.model.vocab_size = 100;
  EXPECT_THROW(VerifyWindows{recipe}, DataError);
}

TEST(VerifyReport, SaysWhatFailed) {
  VerifyReport report;
  report.recipe = "a\"b";
  report.gates = {{.name = "loss", .unit = "relative", .limit = 1e-6},
                  {.name = "update", .unit = "relative L2"}};
  report.gates[0].see(5e-7, "step 1");
  report.gates[1].see(0.5, "x");
  EXPECT_TRUE(report.passed());
  EXPECT_NE(to_table(report).find("all gates held"), std::string::npos);
  report.gates[0].see(std::nan(""), "step 2");
  report.gates[0].see(1, "step 3");
  EXPECT_FALSE(report.passed());
  EXPECT_EQ(report.exit_code(), 5);
  EXPECT_EQ(report.gates[0].where, "step 2");
  EXPECT_NE(to_table(report).find("FAILED"), std::string::npos);
  EXPECT_NE(to_json(report).find(R"("recipe":"a\"b")"), std::string::npos);
  EXPECT_NE(to_json(report).find(R"({"name":"loss","worst":null,"limit":1e-06,"status":"FAILED")"),
            std::string::npos);
}

}  // namespace
}  // namespace strait
