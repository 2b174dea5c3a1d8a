// tests/launch/model_source_test.cpp: checkpoints, runs and Hugging Face folders as one thing.
#include "launch/trainer/model_source.h"

#include "launch/commands/export.h"
#include "tests/launch/saved_model.h"

namespace strait {
namespace {

using test::error_of;
using test::SavedModel;
namespace fs = std::filesystem;

std::string opening(const std::string& path) {
  return error_of<DataError>([&] { ModelSource source(path); });
}

TEST(ModelSource, StepRunAndExportAreTheSameModel) {
  const SavedModel saved;
  ASSERT_EQ(run_export({.from = saved.run(), .to = saved.path("hf"), .dtype = "fp32"}), 0);
  for (const std::string& path : {saved.step(), saved.run(), saved.run() + "/",
                                  saved.run() + "/checkpoints", saved.path("hf")}) {
    ModelSource source(path);
    EXPECT_EQ(source.settings(), saved.recipe.model) << path;
    EXPECT_EQ(source.compute(), DType::f32);
    EXPECT_EQ(source.tokens().eos, 0);
    EXPECT_EQ(source.tokens().bos, -1);
    EXPECT_EQ(source.start_token(), 0);
    EXPECT_EQ(source.tokenizer().vocab_size(), 257);
    EXPECT_EQ(source.tokenizer_json(), test::byte_tokenizer_json());
    const bool is_folder = path.ends_with("hf");
    EXPECT_EQ(source.path(), is_folder ? path : saved.step());
    EXPECT_EQ(source.sequence_length(), 16);
    EXPECT_TRUE(source.skipped().empty());
    bool has_bias = false, has_mtp = false;
    for (const huggingface::TensorSpec& tensor : source.tensors()) {
      std::vector<float> values(static_cast<size_t>(tensor.numel()));
      source.read(tensor.name, 0, values);
      has_mtp = has_mtp || tensor.name == "model.layers.3.eh_proj.weight";
      if (tensor.name == "model.layers.2.mlp.gate.e_score_correction_bias") {
        has_bias = true;
        EXPECT_TRUE(
            std::equal(values.begin(), values.end(), saved.engine->selection_bias().begin() + 8));
      } else if (!tensor.name.ends_with("bias")) {
        EXPECT_EQ(values, saved.master(tensor.name)) << tensor.name;
      }
    }
    EXPECT_TRUE(has_bias && has_mtp);
    std::vector<float> some(5);
    source.read("lm_head.weight", 100, some);
    const std::vector<float> head = saved.master("lm_head.weight");
    EXPECT_EQ(some, std::vector<float>(head.begin() + 100, head.begin() + 105));
  }
}

TEST(ModelSource, TheNewestWholeCheckpointOfARun) {
  SavedModel saved;
  saved.save(20);
  EXPECT_EQ(ModelSource(saved.run()).path(), saved.step(20));
  EXPECT_EQ(ModelSource(saved.step(10)).path(), saved.step(10));
  fs::resize_file(saved.step(20) + "/manifest.json", 100);
  ModelSource source(saved.run());
  EXPECT_EQ(source.path(), saved.step(10));
  ASSERT_EQ(source.skipped().size(), 1u);
  EXPECT_SAYS(source.skipped()[0], saved.step(20));
  fs::resize_file(saved.step(10) + "/manifest.json", 100);
  EXPECT_SAYS(opening(saved.run()), saved.run() + ": has no whole checkpoint");
}

TEST(ModelSource, SaysWhatAPathIsNot) {
  const SavedModel saved;
  EXPECT_SAYS(opening("/nowhere/at/all"), "/nowhere/at/all: no such folder");
  EXPECT_SAYS(opening(saved.file("a.txt", "x")), "a.txt: is a file");
  fs::create_directories(saved.path("empty"));
  EXPECT_SAYS(opening(saved.path("empty")), "empty: is neither a checkpoint");
  fs::create_directories(saved.path("young/checkpoints"));
  EXPECT_SAYS(opening(saved.path("young")), "young: has no checkpoint yet");
}

TEST(ModelSource, SaysWhatIsMissing) {
  SavedModel saved;
  saved.extra.clear();
  saved.save(30);
  ModelSource bare(saved.run());
  EXPECT_FALSE(bare.has_tokenizer());
  EXPECT_SAYS(error_of<DataError>([&] { bare.tokenizer(); }),
              saved.step(30) + ": the checkpoint holds no tokenizer");
  EXPECT_SAYS(error_of<DataError>([&] { bare.start_token(); }), "says of no token");
  saved.extra = {{"eos_id", "zero"}};
  saved.save(40);
  EXPECT_SAYS(opening(saved.run()), "eos_id 'zero' is not a number");

  ASSERT_EQ(run_export({.from = saved.step(10), .to = saved.path("hf")}), 0);
  std::ifstream in(saved.path("hf/config.json"));
  std::string config((std::istreambuf_iterator<char>(in)), {});
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = config;
    text.replace(text.find(from), from.size(), to);
    saved.file("hf/config.json", text);
    return opening(saved.path("hf"));
  };
  EXPECT_SAYS(changed("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 5"),
              "hf: has no tensor model.layers.4.");
  EXPECT_SAYS(changed("\"vocab_size\": 260", "\"vocab_size\": 270"),
              "hf: tensor model.embed_tokens.weight has shape [260, 24], the model's settings say "
              "[270, 24]");
}

TEST(ModelSource, ATokenizerLargerThanTheModelIsRefused) {
  const SavedModel saved({"model.vocab_size=200"});
  const ModelSource source(saved.run());
  EXPECT_SAYS(error_of<DataError>([&] { source.tokenizer(); }),
              "has 257 tokens, but the model's vocabulary has 200");
}

TEST(ModelSource, DamagedValuesAreNoticedWhenRead) {
  const SavedModel saved;
  for (const auto& entry : fs::directory_iterator(saved.step())) {
    if (entry.path().extension() == ".json") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(entry.path()) / 2));
    file.put('\x5a');
  }
  ModelSource source(saved.run());
  EXPECT_SAYS(error_of<DataError>([&] {
                for (const huggingface::TensorSpec& tensor : source.tensors()) {
                  std::vector<float> values(static_cast<size_t>(tensor.numel()));
                  source.read(tensor.name, 0, values);
                }
                load_engine(source, {});
                throw DataError("not noticed");
              }),
              saved.step());
}

}  // namespace
}  // namespace strait
