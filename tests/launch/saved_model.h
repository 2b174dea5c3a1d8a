// tests/launch/saved_model.h: a small model saved as a run with one checkpoint, for the commands
// that read one.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>

#include "core/errors.h"
#include "data/huggingface/config_json.h"
#include "data/huggingface/model_folder.h"
#include "data/tokenizer/utf8.h"
#include "launch/engine/engine_settings.h"
#include "launch/trainer/state.h"
#include "parallel/comm/self.h"

namespace strait::test {

namespace fs = std::filesystem;

// Byte-level BPE without merges: token 0 ends a text, token b + 1 is byte b.
inline std::string byte_tokenizer_json() {
  std::string vocab = "\"<|endoftext|>\": 0";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string token = byte_level_of_bytes(std::string(1, static_cast<char>(byte)));
    vocab += ", \"" + (token == "\"" || token == "\\" ? "\\" + token : token) +
             "\": " + std::to_string(byte + 1);
  }
  return R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{"id": 0, "content": "<|endoftext|>",
    "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
    "use_regex": true}, "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
    "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": {)" +
         vocab + "}, \"merges\": []}}";
}

inline const std::string kRecipe = R"(
model: {vocab_size: 260, hidden_size: 24, num_hidden_layers: 3, first_k_dense_replace: 1, initializer_range: 0.2,
  num_attention_heads: 2, q_lora_rank: 12, kv_lora_rank: 10, qk_nope_head_dim: 8, qk_rope_head_dim: 4, v_head_dim: 8,
  max_position_embeddings: 48, intermediate_size: 40, moe_intermediate_size: 12, n_routed_experts: 8,
  n_shared_experts: 1, num_experts_per_tok: 3, n_group: 4, topk_group: 2, num_nextn_predict_layers: 1}
schedule: {peak_lr: 1e-3}
train: {steps: 10, global_batch: 1, sequence_length: 16, precision: fp32}
data: {corpus: corpus}
)";

class SavedModel {
 public:
  using Change = std::function<void(Engine&)>;

  explicit SavedModel(const std::vector<std::string>& overrides = {}, const Change& change = {})
      : recipe(read_recipe(kRecipe, "x.yaml", overrides)) {
    static int count = 0;
    folder = fs::path(testing::TempDir()) /
             ("strait-saved-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
    comm = self_comm();
    engine = std::make_unique<Engine>(engine_settings(recipe, Mesh(1, 1, 1), 1), Mesh(1, 1, 1),
                                      Rank{0}, comm.get(), Device::cpu);
    engine->initialise(3);
    std::mt19937 generator(8);
    std::uniform_real_distribution<float> around_one(0.5f, 1.5f), around_zero(-0.3f, 0.3f);
    for (Bucket& bucket : engine->buckets())
      for (const ShardPiece& piece : pieces_of_shard(bucket))
        for (int64_t i = 0; piece.parameter->role == Role::norm && i < piece.count; ++i)
          bucket.master.data<float>()[piece.shard_offset + i] = around_one(generator);
    for (float& bias : engine->selection_bias()) bias = around_zero(generator);
    if (change) change(*engine);
    engine->load_weights();
    extra = {{"tokenizer_json", byte_tokenizer_json()}, {"eos_id", "0"}};
    save(10);
  }
  ~SavedModel() { fs::remove_all(folder); }
  SavedModel(const SavedModel&) = delete;
  SavedModel& operator=(const SavedModel&) = delete;

  void save(int64_t at_step) {
    checkpoint::Manifest manifest;
    manifest.step = at_step;
    manifest.model = describe_model(
        recipe.model, huggingface::to_config_json(recipe.model, {.eos = 0}, DType::f32));
    manifest.recipe = to_yaml(recipe);
    manifest.extra = extra;
    save_checkpoint(*engine, *comm, run() + "/checkpoints", manifest);
  }
  std::string run() const { return (folder / "run").string(); }
  std::string step(int64_t at_step = 10) const { return checkpoint_folder(at_step).string(); }
  std::string file(const std::string& name, const std::string& content) const {
    const fs::path path = folder / name;
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
  std::string path(const std::string& name) const { return (folder / name).string(); }

  // The master weights of a Hugging Face tensor.
  std::vector<float> master(const std::string& name) const {
    for (Bucket& bucket : engine->buckets())
      for (const ShardPiece& piece : pieces_of_shard(bucket))
        if (piece.part->name == name) {
          const float* from = bucket.master.data<float>() + piece.shard_offset;
          return {from, from + piece.count};
        }
    ADD_FAILURE() << "no tensor " << name;
    return {};
  }

  Recipe recipe;
  fs::path folder;
  std::unique_ptr<Comm> comm;
  std::unique_ptr<Engine> engine;
  std::map<std::string, std::string> extra;

 private:
  fs::path checkpoint_folder(int64_t at_step) const {
    char name[32];
    std::snprintf(name, sizeof name, "step-%08d", static_cast<int>(at_step));
    return folder / "run" / "checkpoints" / name;
  }
};

template <class E, class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "no error";
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

inline std::string text_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A whole tensor.
inline std::vector<float> values_of(const huggingface::ModelFolderReader& folder,
                                    const std::string& name) {
  std::vector<float> values(static_cast<size_t>(folder.tensors().at(name).numel()));
  folder.read(name, 0, values);
  return values;
}

}  // namespace strait::test
