// tests/launch/generate_test.cpp: text from a saved model.
#include "launch/commands/generate.h"

#include <nlohmann/json.hpp>

#include "tests/launch/saved_model.h"

namespace strait {
namespace {

using Json = nlohmann::json;
using test::error_of;
using test::SavedModel;

Json json_of(GenerateOptions options) {
  options.json = true;
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_generate(options), 0);
  return Json::parse(testing::internal::GetCapturedStdout());
}

// Greedy decoding the slow way: the whole text again for each token.
std::vector<int32_t> greedy_by_full_forward(SavedModel& saved, std::vector<int32_t> ids,
                                            size_t count) {
  const size_t prompt = ids.size();
  size_t last = 0;
  std::vector<int32_t> found;
  saved.engine->watch_logits([&](const Tensor& logits, int64_t first) {
    const float* row = logits.data<float>() + (static_cast<int64_t>(last) - first) * logits.cols();
    found.push_back(static_cast<int32_t>(std::max_element(row, row + 257) - row));
  });
  while (ids.size() < prompt + count) {
    std::vector<int32_t> window = ids;
    last = ids.size() - 1;
    window.resize(static_cast<size_t>(saved.engine->window_tokens()), 0);
    saved.engine->evaluate(window);
    ids.push_back(found.back());
  }
  return found;
}

TEST(Generate, GreedyEqualsTheFullForward) {
  SavedModel saved;
  const Json json =
      json_of({.model = saved.run(), .prompt = "ab", .max_tokens = 12, .temperature = 0});
  EXPECT_EQ(json["prompt_tokens"], 3);  // what begins a text, and two bytes
  std::vector<int32_t> wanted = greedy_by_full_forward(saved, {0, 'a' + 1, 'b' + 1}, 12);
  if (const auto eos = std::find(wanted.begin(), wanted.end(), 0); eos != wanted.end())
    wanted.erase(eos, wanted.end());
  EXPECT_FALSE(wanted.empty());
  EXPECT_EQ(json["ids"].get<std::vector<int32_t>>(), wanted);
  EXPECT_EQ(json["cache_bytes"], (10 + 4) * 14 * 3 * 4);  // a place for every token but the last
}

TEST(Generate, SameSeedSameText) {
  const SavedModel saved;
  const auto text = [&](uint64_t seed, int threads) {
    return json_of({.model = saved.run(),
                    .max_tokens = 30,
                    .temperature = 1.2,
                    .seed = seed,
                    .threads = threads});
  };
  const Json first = text(7, 1);
  EXPECT_EQ(text(7, 2)["ids"], first["ids"]);
  EXPECT_NE(text(8, 1)["ids"], first["ids"]);
  for (const int32_t id : first["ids"]) EXPECT_LT(id, 257);  // rows of the model that are no token
}

TEST(Generate, StreamsTheSameText) {
  const SavedModel saved;
  GenerateOptions options{.model = saved.run(), .prompt = "narrow", .max_tokens = 20, .seed = 3};
  const std::string text = json_of(options)["text"];
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_generate(options), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), text + "\n");
  EXPECT_SAYS(testing::internal::GetCapturedStderr(), "tokens/s");
}

TEST(Generate, StopsAtTheEndOfTextAndOfThePositions) {
  // Without a final norm all logits are zero, and the lowest id, which ends a text, is the largest.
  const SavedModel silent({}, [](Engine& engine) {
    for (Bucket& bucket : engine.buckets())
      for (const ShardPiece& piece : pieces_of_shard(bucket))
        if (piece.part->name == "model.norm.weight")
          std::fill_n(bucket.master.data<float>() + piece.shard_offset, piece.count, 0.0f);
  });
  const Json nothing = json_of({.model = silent.run(), .prompt = "x", .temperature = 0});
  EXPECT_EQ(nothing["stop"], "eos");
  EXPECT_EQ(nothing["tokens"], 0);
  EXPECT_EQ(nothing["text"], "");

  SavedModel saved;
  saved.extra["eos_id"] = "258";  // a row that no text has
  saved.save(20);
  const Json full = json_of({.model = saved.run(), .prompt = "", .max_tokens = 500});
  EXPECT_EQ(full["stop"], "max_position_embeddings");
  EXPECT_EQ(full["prompt_tokens"], 1);
  EXPECT_EQ(full["tokens"], 48);
  EXPECT_EQ(json_of({.model = saved.run(), .max_tokens = 5})["stop"], "max_tokens");
}

TEST(Generate, RefusesWhatCannotBe) {
  const SavedModel saved;
  const auto refusal = [&](const GenerateOptions& options) {
    return error_of<RecipeError>([&] { run_generate(options); });
  };
  EXPECT_SAYS(refusal({.model = saved.run(), .prompt = std::string(48, 'x')}),
              "the prompt has 49 tokens; " + saved.step() + " has max_position_embeddings: 48");
  EXPECT_SAYS(refusal({.model = saved.run(), .prompt = "x", .max_tokens = 0}), "--max-tokens");
  EXPECT_SAYS(refusal({.model = saved.run(), .prompt = "x", .temperature = -1}), "--temperature");
  EXPECT_SAYS(refusal({.model = saved.run(), .prompt = "x", .top_p = 0}), "--top-p");
  EXPECT_SAYS(refusal({.model = saved.run(), .prompt = "x", .top_p = 1.5}), "--top-p");
  EXPECT_SAYS(
      error_of<DataError>([&] { run_generate({.model = saved.run(), .prompt = "ab\xFF"}); }),
      "--prompt:1: not UTF-8: byte 0xff at offset 2");
}

}  // namespace
}  // namespace strait
