// tests/launch/eval_test.cpp: the loss of a model on a text.
#include "launch/commands/eval.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/nn/decode.h"
#include "launch/commands/export.h"
#include "launch/trainer/model_source.h"
#include "tests/launch/saved_model.h"

namespace strait {
namespace {

using test::error_of;
using test::SavedModel;
namespace fs = std::filesystem;

const std::string kText =
    "The strait is narrow: 3 km at 4 o'clock.\nStraße, 海峡, \xF0\x9F\x9A\xA2 and on we go";

// The same figure another way: each window decoded on its own, losses in FP64.
double expected_nll(const SavedModel& saved, const std::string& text, int64_t length) {
  std::vector<int32_t> stream{0};
  for (const char byte : text) stream.push_back(static_cast<unsigned char>(byte) + 1);
  Decoder decoder(saved.engine->ctx(), saved.engine->model(), saved.engine->selection_bias(),
                  length);
  double nll = 0;
  for (size_t first = 0; first + 1 < stream.size(); first += static_cast<size_t>(length)) {
    const size_t count = std::min(static_cast<size_t>(length), stream.size() - 1 - first);
    decoder.rewind(0);
    const Tensor logits =
        decoder.run(std::span(stream).subspan(first, count), Decoder::Logits::all);
    for (size_t i = 0; i < count; ++i) {
      const float* row = logits.data<float>() + i * 260;
      double sum = 0;
      for (int v = 0; v < 260; ++v) sum += std::exp(static_cast<double>(row[v]));
      nll += std::log(sum) - static_cast<double>(row[stream[first + i + 1]]);
    }
  }
  return nll;
}

TEST(Eval, EveryTokenCountsOnce) {
  const SavedModel saved;
  const std::string file = saved.file("text.txt", kText);
  const auto bytes = static_cast<int64_t>(kText.size());
  for (const int64_t length : {int64_t{0}, int64_t{1}, int64_t{7}, bytes / 2, int64_t{48}}) {
    const int64_t used = length == 0 ? 16 : length;  // the recipe's
    const EvalResult result =
        evaluate_text({.model = saved.run(), .text = file, .sequence_length = length});
    const double nll = expected_nll(saved, kText, used);
    EXPECT_EQ(result.model, saved.step());
    EXPECT_EQ(result.tokens, bytes);
    EXPECT_EQ(result.bytes, bytes);
    EXPECT_EQ(result.sequence_length, used);
    EXPECT_EQ(result.windows, (bytes + used - 1) / used);
    EXPECT_NEAR(result.nll, nll / static_cast<double>(bytes), 1e-5) << used;
    EXPECT_NEAR(result.perplexity, std::exp(result.nll), 1e-9);
    EXPECT_NEAR(result.bits_per_byte, result.nll / std::log(2.0), 1e-9);  // a token is a byte here
    EXPECT_GE(result.mean_violation, 0);
    EXPECT_GE(result.worst_violation, result.mean_violation);
  }
}

TEST(Eval, ATextShorterThanAWindow) {
  const SavedModel saved;
  const EvalResult result =
      evaluate_text({.model = saved.run(), .text = saved.file("text.txt", "abc")});
  EXPECT_EQ(result.tokens, 3);
  EXPECT_EQ(result.sequence_length, 3);
  EXPECT_NEAR(result.nll, expected_nll(saved, "abc", 3) / 3, 1e-5);
}

TEST(Eval, CheckpointAndExportAgreeForAnyThreads) {
  const SavedModel saved;
  const std::string file = saved.file("text.txt", kText);
  run_export({.from = saved.run(), .to = saved.path("out"), .dtype = "fp32"});
  const EvalResult one = evaluate_text({.model = saved.run(), .text = file, .threads = 1});
  for (const std::string& model : {saved.run(), saved.path("out")}) {
    const EvalResult other =
        evaluate_text({.model = model, .text = file, .sequence_length = 16, .threads = 3});
    EXPECT_EQ(other.nll, one.nll);
    EXPECT_EQ(other.worst_violation, one.worst_violation);
  }
  // An exported folder keeps how long sequences were, also through another export.
  run_export({.from = saved.path("out"), .to = saved.path("again"), .dtype = "fp32"});
  for (const char* model : {"out", "again"})
    EXPECT_EQ(evaluate_text({.model = saved.path(model), .text = file}).sequence_length, 16);
}

TEST(Eval, MaxVioOfAModelThatAlwaysChoosesTheSame) {
  const SavedModel saved({"model.n_group=1", "model.topk_group=1"}, [](Engine& engine) {
    for (size_t i = 0; i < engine.selection_bias().size(); ++i)
      engine.selection_bias()[i] = i % 8 < 3 ? 10.0f : 0.0f;
  });
  const EvalResult result =
      evaluate_text({.model = saved.run(), .text = saved.file("text.txt", kText)});
  EXPECT_NEAR(result.mean_violation, 8.0 / 3 - 1,
              1e-12);  // three of eight experts share all tokens
  EXPECT_NEAR(result.worst_violation, 8.0 / 3 - 1, 1e-12);
}

TEST(Eval, WritesLogits) {
  const SavedModel saved;
  const std::string out = saved.path("logits.safetensors"), file = saved.file("text.txt", kText);
  EXPECT_EQ(evaluate_text({.model = saved.run(), .text = file, .logits = out}).sequence_length, 16);
  const huggingface::SafetensorsFile written(out);
  const auto windows = static_cast<int64_t>(kText.size()) / 16;  // the last one is not whole
  EXPECT_EQ(written.tensor("input_ids").shape, (std::vector<int64_t>{windows, 16}));
  EXPECT_EQ(written.tensor("logits").shape, (std::vector<int64_t>{windows, 16, 260}));
  std::vector<int32_t> ids(static_cast<size_t>(windows) * 16);
  written.read_raw("input_ids", 0, std::as_writable_bytes(std::span(ids)));
  for (size_t i = 0; i < ids.size(); ++i)
    ASSERT_EQ(ids[i], i == 0 ? 0 : static_cast<unsigned char>(kText[i - 1]) + 1);
  Decoder decoder(saved.engine->ctx(), saved.engine->model(), saved.engine->selection_bias(), 16);
  for (int64_t window = 0; window < windows; ++window) {
    decoder.rewind(0);
    const Tensor expected = decoder.run(
        std::span(ids).subspan(static_cast<size_t>(window) * 16, 16), Decoder::Logits::all);
    std::vector<float> logits(static_cast<size_t>(expected.numel()));
    written.read("logits", window * expected.numel(), logits);
    for (size_t i = 0; i < logits.size(); ++i)
      ASSERT_NEAR(logits[i], expected.data<float>()[i], 1e-4);
  }
  EXPECT_SAYS(
      error_of<DataError>([&] {
        evaluate_text({.model = saved.run(), .text = file, .logits = saved.path("no/such/x")});
      }),
      "no/such/x");
}

TEST(Eval, PrecisionCanBeChosen) {
  const SavedModel saved;
  const std::string file = saved.file("text.txt", kText);
  run_export({.from = saved.run(), .to = saved.path("out"), .dtype = "bf16"});
  const auto nll = [&](const std::string& model, const std::string& precision) {
    return evaluate_text(
               {.model = model, .text = file, .sequence_length = 16, .precision = precision})
        .nll;
  };
  EXPECT_EQ(nll(saved.path("out"), ""), nll(saved.path("out"), "bf16"));
  EXPECT_NE(nll(saved.path("out"), "fp32"), nll(saved.path("out"), "bf16"));
  EXPECT_EQ(nll(saved.run(), ""), nll(saved.run(), "fp32"));
  EXPECT_NEAR(nll(saved.run(), "bf16"), nll(saved.run(), "fp32"), 0.05);
  EXPECT_SAYS(error_of<RecipeError>([&] { nll(saved.run(), "fp16"); }),
              "--precision: expected fp32, bf16 or fp8");
}

TEST(Eval, PrintsJson) {
  const SavedModel saved;
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_eval({.model = saved.run(), .text = saved.file("text.txt", kText), .json = true}),
            0);
  const auto json = nlohmann::json::parse(testing::internal::GetCapturedStdout());
  EXPECT_EQ(json["bytes"], kText.size());
  EXPECT_GT(json["bits_per_byte"].get<double>(), 0);
  EXPECT_TRUE(json.contains("max_violation_worst_layer"));
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_eval({.model = saved.run(), .text = saved.path("text.txt")}), 0);
  EXPECT_SAYS(testing::internal::GetCapturedStdout(), "bits per byte");
}

TEST(Eval, RefusesBadTexts) {
  SavedModel saved;
  const auto refusal = [&](const std::string& text) {
    return error_of<DataError>([&] { evaluate_text({.model = saved.run(), .text = text}); });
  };
  EXPECT_SAYS(refusal(saved.file("empty.txt", "")), "empty.txt: is empty");
  EXPECT_SAYS(refusal(saved.file("bad.txt", "abc\xC3(def")),
              "bad.txt:1: not UTF-8: byte 0xc3 at offset 3");
  EXPECT_SAYS(refusal(saved.path("none.txt")), "none.txt: cannot be opened");
  EXPECT_SAYS(refusal(saved.run()), "run: is a folder");
  const std::string good = saved.file("good.txt", "good");
  EXPECT_SAYS(error_of<RecipeError>([&] {
                evaluate_text({.model = saved.run(), .text = good, .sequence_length = 49});
              }),
              "--sequence-length: expected 1 to 48");
  saved.extra.erase("tokenizer_json");
  saved.save(20);
  EXPECT_SAYS(refusal(good), "the checkpoint holds no tokenizer");
}

}  // namespace
}  // namespace strait
