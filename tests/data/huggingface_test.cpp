// Model folders: config.json in both directions, the files of a folder, and reading one back.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "core/errors.h"
#include "data/huggingface/model_folder.h"

namespace strait::huggingface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

#define EXPECT_SAYS(message, part) \
  EXPECT_NE((message).find(part), std::string::npos) << "'" << (part) << "' not in: " << (message)

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

ModelSettings v3_settings() {
  ModelSettings s;
  s.vocab_size = 48;
  s.hidden_size = 24;
  s.num_hidden_layers = 3;
  s.first_k_dense_replace = 1;
  s.initializer_range = 0.02;
  s.num_attention_heads = 2;
  s.q_lora_rank = 12;
  s.kv_lora_rank = 8;
  s.qk_nope_head_dim = 8;
  s.qk_rope_head_dim = 4;
  s.v_head_dim = 6;
  s.max_position_embeddings = 256;
  s.rope_theta = 5000;
  s.rope_scaling = {.factor = 4,
                    .original_max_position_embeddings = 64,
                    .beta_fast = 16,
                    .beta_slow = 2,
                    .mscale = 0.7,
                    .mscale_all_dim = 0.7};
  s.intermediate_size = 40;
  s.moe_intermediate_size = 16;
  s.n_routed_experts = 8;
  s.n_shared_experts = 1;
  s.num_experts_per_tok = 3;
  s.n_group = 4;
  s.topk_group = 2;
  s.routed_scaling_factor = 2.5;
  s.num_nextn_predict_layers = 1;
  return s;
}

ModelSettings v2_settings() {
  ModelSettings s = v3_settings();
  s.q_lora_rank = 0;
  s.rope_scaling = {};
  s.n_shared_experts = 2;
  s.scoring_func = "softmax";
  s.topk_method = "group_limited_greedy";
  s.norm_topk_prob = false;
  s.num_nextn_predict_layers = 0;
  s.tie_word_embeddings = true;
  return s;
}

ModelSettings dense_settings() {
  ModelSettings s = v3_settings();
  s.n_routed_experts = s.n_shared_experts = s.num_experts_per_tok = s.moe_intermediate_size = 0;
  s.n_group = s.topk_group = 1;
  s.first_k_dense_replace = 0;
  s.routed_scaling_factor = 1;
  s.num_nextn_predict_layers = 0;
  return s;
}

std::string config_of(const ModelSettings& settings) {
  return to_config_json(settings, {.bos = 0, .eos = 1}, DType::bf16);
}

TEST(ConfigJson, RoundTrip) {
  for (const ModelSettings& settings : {v3_settings(), v2_settings(), dense_settings()})
    EXPECT_EQ(from_config_json(config_of(settings), "c"), settings) << config_of(settings);
  const SpecialTokens tokens = special_tokens_from_config_json(config_of(v3_settings()), "c");
  EXPECT_EQ(tokens.bos, 0);
  EXPECT_EQ(tokens.eos, 1);
  EXPECT_EQ(tokens.pad, -1);
}

TEST(ConfigJson, KeysOfTheClasses) {
  const Json v3 = Json::parse(config_of(v3_settings()));
  EXPECT_EQ(v3["architectures"][0], "DeepseekV3ForCausalLM");
  EXPECT_EQ(v3["model_type"], "deepseek_v3");
  EXPECT_EQ(v3["torch_dtype"], "bfloat16");
  EXPECT_EQ(v3["rope_scaling"]["type"], "yarn");
  EXPECT_EQ(v3["rope_interleave"], true);
  EXPECT_FALSE(v3["rope_scaling"].contains("attention_factor"));
  const Json v2 = Json::parse(config_of(v2_settings()));
  EXPECT_EQ(v2["architectures"][0], "DeepseekV2ForCausalLM");
  EXPECT_TRUE(v2["q_lora_rank"].is_null());
  EXPECT_TRUE(v2["rope_scaling"].is_null());
  EXPECT_TRUE(v2["pad_token_id"].is_null());
  const Json dense = Json::parse(config_of(dense_settings()));
  EXPECT_EQ(dense["first_k_dense_replace"], 3);
}

// transformers takes a zero mscale as absent; then the scale of cosine and sine is written out.
TEST(ConfigJson, ScaleOfCosineAndSine) {
  ModelSettings s = v3_settings();
  s.rope_scaling.mscale = 0.5;
  s.rope_scaling.mscale_all_dim = 0;
  const Json json = Json::parse(config_of(s));
  EXPECT_DOUBLE_EQ(json["rope_scaling"]["attention_factor"].get<double>(),
                   0.1 * 0.5 * std::log(4.0) + 1);
  EXPECT_EQ(from_config_json(json.dump(), "c"), s);
  Json other = json;
  other["rope_scaling"]["attention_factor"] = 1.0;
  EXPECT_SAYS(error_of([&] { from_config_json(other.dump(), "c"); }),
              "rope_scaling.attention_factor: 1.0");
  s.rope_scaling.mscale = 1;
  EXPECT_FALSE(Json::parse(config_of(s))["rope_scaling"].contains("attention_factor"));
}

TEST(ConfigJson, ModelsWithoutAClassAreRefused) {
  const auto refused = [](const std::function<void(ModelSettings&)>& change, bool softmax,
                          const std::string& part) {
    ModelSettings s = softmax ? v2_settings() : v3_settings();
    change(s);
    EXPECT_THROW(require_exportable(s), RecipeError);
    EXPECT_SAYS(error_of([&] { config_of(s); }), part);
  };
  refused([](ModelSettings& s) { s.norm_topk_prob = true; }, true, "norm_topk_prob: true");
  refused([](ModelSettings& s) { s.topk_method = "noaux_tc"; }, true, "noaux_tc");
  refused([](ModelSettings& s) { s.num_attention_heads = 7; }, true, "num_attention_heads: 7");
  refused([](ModelSettings& s) { s.topk_method = "group_limited_greedy"; }, false,
          "group_limited_greedy");
  refused([](ModelSettings& s) { s.n_group = 8; }, false, "n_group: 8");
  ModelSettings greedy = v3_settings();
  greedy.topk_method = "greedy";
  EXPECT_EQ(Json::parse(config_of(greedy))["n_group"], 1);  // greedy knows no groups
}

TEST(ConfigJson, UnsupportedSettingsSayKeyAndValue) {
  const Json good = Json::parse(config_of(v3_settings()));
  const std::vector<std::tuple<std::string, Json, std::string>> cases = {
      {"model_type", "llama", "model_type: 'llama'"},
      {"hidden_act", "gelu", "hidden_act: \"gelu\""},
      {"attention_bias", true, "attention_bias: true"},
      {"rope_interleave", false, "rope_interleave: false"},
      {"num_key_value_heads", 1, "num_key_value_heads: 1"},
      {"moe_layer_freq", 2, "moe_layer_freq: 2"},
      {"scoring_func", "softmax", "scoring_func: \"softmax\""},
      {"topk_method", "greedy", "topk_method: \"greedy\""},
      {"quantization_config", 8, "quantization_config: 8"},
      {"quantization_config", {{"bits", 4}}, "quantization_config.quant_method is missing"},
      {"quantization_config", {{"quant_method", "awq"}}, "quant_method: \"awq\""},
      {"quantization_config",
       {{"quant_method", "fp8"}, {"weight_block_size", {64, 64}}},
       "weight_block_size: [64,64]"},
      {"rope_scaling", {{"type", "linear"}, {"factor", 2}}, "rope_scaling.type: \"linear\""},
      {"rope_scaling", {{"type", "yarn"}}, "rope_scaling.factor is missing"},
      {"hidden_size", "big", "hidden_size: \"big\""},
      {"hidden_size", nullptr, "hidden_size is missing"},
      {"vocab_size", 0, "vocab_size: 0 is out of range"},
      {"num_nextn_predict_layers", 2, "num_nextn_predict_layers: 2"}};
  for (const auto& [key, value, part] : cases) {
    Json bad = good;
    bad[key] = value;
    EXPECT_SAYS(error_of([&] { from_config_json(bad.dump(), "x/config.json"); }), part);
    EXPECT_SAYS(error_of([&] { from_config_json(bad.dump(), "x/config.json"); }), "x/config.json");
  }
  Json two = good;
  two["attention_bias"] = true;
  two.erase("v_head_dim");
  EXPECT_SAYS(error_of([&] { from_config_json(two.dump(), "c"); }), "attention_bias");
  EXPECT_SAYS(error_of([&] { from_config_json(two.dump(), "c"); }), "v_head_dim is missing");
  EXPECT_SAYS(error_of([&] { from_config_json("{", "c"); }), "not a JSON object");
}

// What transformers 5 writes when it saves a model: rope_parameters, no topk_method, no
// scoring_func.
TEST(ConfigJson, ReadsTheKeysOfTransformers5) {
  Json json = Json::parse(config_of(v3_settings()));
  Json rope = json["rope_scaling"];
  rope.erase("type");
  rope["rope_theta"] = json["rope_theta"];
  json["rope_parameters"] = rope;
  json["dtype"] = json["torch_dtype"];
  for (const char* key : {"rope_theta", "rope_scaling", "torch_dtype", "scoring_func",
                          "topk_method", "moe_layer_freq"})
    json.erase(key);
  EXPECT_EQ(from_config_json(json.dump(), "c"), v3_settings());
}

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = (fs::temp_directory_path() / "strait-huggingface-XXXXXX").string();
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    root_ = path;
    path_ = root_ + "/model";
  }
  void TearDown() override { fs::remove_all(root_); }

  std::set<std::string> names_in(const std::string& folder) {
    std::set<std::string> names;
    for (const auto& item : fs::directory_iterator(folder))
      names.insert(item.path().filename().string());
    return names;
  }
  std::string root_, path_;
};

// Enough of a model for the folder's own rules: embedding, head, one MoE layer's router, the MTP
// projection.
std::vector<TensorSpec> tensors_of(const ModelSettings& s, bool with_bias) {
  std::vector<TensorSpec> list = {
      {"model.embed_tokens.weight", {s.vocab_size, s.hidden_size}},
      {"model.layers.1.mlp.gate.weight", {s.n_routed_experts, s.hidden_size}}};
  if (with_bias)
    list.push_back({"model.layers.1.mlp.gate.e_score_correction_bias", {s.n_routed_experts}});
  if (s.num_nextn_predict_layers > 0)
    list.push_back({"model.layers.3.eh_proj.weight", {s.hidden_size, 2 * s.hidden_size}});
  if (!s.tie_word_embeddings) list.push_back({"lm_head.weight", {s.vocab_size, s.hidden_size}});
  return list;
}

float value_at(const std::string& name, size_t index) {
  return static_cast<float>(name.size()) + 0.001f * static_cast<float>(index);
}

void fill(ModelFolderWriter& writer, const std::vector<TensorSpec>& tensors) {
  for (const TensorSpec& tensor : tensors) {
    std::vector<float> values(static_cast<size_t>(tensor.numel()));
    for (size_t index = 0; index < values.size(); ++index)
      values[index] = value_at(tensor.name, index);
    const std::span<const float> all(values);
    writer.append(tensor.name, all.first(all.size() / 3));
    writer.append(tensor.name, all.subspan(all.size() / 3));
  }
}

TEST_F(Folder, RoundTripInBothDtypes) {
  const ModelSettings settings = v3_settings();
  const auto tensors = tensors_of(settings, true);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t max_shard_bytes : {int64_t{1} << 30, int64_t{6000}, int64_t{1}}) {
      fs::remove_all(path_);
      ModelFolderWriter writer(path_ + "/",
                               {.settings = settings,
                                .dtype = dtype,
                                .tokens = {.eos = 1},
                                .max_shard_bytes = max_shard_bytes},
                               tensors);
      EXPECT_FALSE(fs::exists(path_));
      fill(writer, tensors);
      writer.finish();
      EXPECT_EQ(names_in(root_), std::set<std::string>{"model"});
      const bool one_file = max_shard_bytes == int64_t{1} << 30;
      EXPECT_EQ(fs::exists(path_ + "/model.safetensors"), one_file);
      EXPECT_EQ(fs::exists(path_ + "/model.safetensors.index.json"), !one_file);

      const ModelFolderReader reader(path_);
      EXPECT_EQ(reader.settings(), settings);
      EXPECT_EQ(reader.tokens().eos, 1);
      EXPECT_EQ(reader.tokenizer_json(), "");
      for (const TensorSpec& tensor : tensors) {
        const bool bias = tensor.name.ends_with("e_score_correction_bias");
        EXPECT_EQ(reader.tensors().at(tensor.name).dtype,
                  dtype == DType::f32 || bias ? "F32" : "BF16");
        EXPECT_EQ(reader.tensors().at(tensor.name).shape, tensor.shape);
        std::vector<float> values(static_cast<size_t>(tensor.numel()) - 1);
        reader.read(tensor.name, 1, values);
        for (size_t index = 0; index < values.size(); ++index) {
          const float exact = value_at(tensor.name, index + 1);
          ASSERT_EQ(values[index],
                    dtype == DType::f32 || bias ? exact : to_float(to_bfloat16(exact)));
        }
      }
    }
  }
}

TEST_F(Folder, IndexListsEveryTensorAndTheSize) {
  const ModelSettings settings = v3_settings();
  const auto tensors = tensors_of(settings, true);
  ModelFolderWriter writer(
      path_, {.settings = settings, .dtype = DType::f32, .max_shard_bytes = 6000}, tensors);
  fill(writer, tensors);
  writer.finish();
  std::ifstream file(path_ + "/model.safetensors.index.json");
  const Json index = Json::parse(file);
  int64_t bytes = 0;
  std::set<std::string> files;
  for (const auto& [name, in_file] : index["weight_map"].items()) {
    const SafetensorsFile shard(path_ + "/" + in_file.get<std::string>());
    bytes += shard.tensor(name).bytes;
    files.insert(in_file);
  }
  EXPECT_EQ(index["metadata"]["total_size"], bytes);
  EXPECT_TRUE(
      files.contains("model-00001-of-0000" + std::to_string(files.size()) + ".safetensors"));
  EXPECT_EQ(names_in(path_).size(), files.size() + 3);  // config, generation_config, index
}

TEST_F(Folder, AddsWhatTransformersExpects) {
  ModelSettings settings = v3_settings();
  settings.n_shared_experts = 0;
  settings.topk_method = "greedy";
  const auto tensors = tensors_of(settings, false);
  ModelFolderWriter writer(path_, {.settings = settings, .dtype = DType::f32}, tensors);
  fill(writer, tensors);
  writer.finish();
  const ModelFolderReader reader(path_);
  std::vector<float> bias(8, 1.0f);
  reader.read("model.layers.1.mlp.gate.e_score_correction_bias", 0, bias);
  EXPECT_EQ(bias, std::vector<float>(8, 0.0f));
  EXPECT_EQ(reader.tensors().at("model.layers.1.mlp.shared_experts.up_proj.weight").shape,
            (std::vector<int64_t>{0, 24}));
  // MTP's copies of embedding and head
  std::vector<float> copy(48 * 24), original(48 * 24);
  reader.read("model.layers.3.embed_tokens.weight", 0, copy);
  reader.read("model.embed_tokens.weight", 0, original);
  EXPECT_EQ(copy, original);
  reader.read("model.layers.3.shared_head.head.weight", 0, copy);
  reader.read("lm_head.weight", 0, original);
  EXPECT_EQ(copy, original);
}

TEST_F(Folder, WithoutMtpWeightsThereIsNoMtp) {
  ModelSettings settings = v3_settings();
  settings.num_nextn_predict_layers = 0;
  const auto tensors = tensors_of(settings, true);
  settings.num_nextn_predict_layers = 1;
  ModelFolderWriter writer(path_, {.settings = settings}, tensors);
  fill(writer, tensors);
  writer.finish();
  EXPECT_EQ(ModelFolderReader(path_).settings().num_nextn_predict_layers, 0);
}

TEST_F(Folder, TokenizerFiles) {
  const std::string tokenizer = R"({"added_tokens": [
      {"id": 0, "content": "<|pad|>", "special": true, "lstrip": false},
      {"id": 1, "content": "<|end|>", "special": true, "lstrip": false}], "model": {"type": "BPE"}})";
  const ModelSettings settings = v3_settings();
  const auto tensors = tensors_of(settings, true);
  const ModelFolder folder = {
      .settings = settings, .tokens = {.eos = 1, .pad = 0}, .tokenizer_json = tokenizer};
  {
    ModelFolderWriter writer(path_, folder, tensors);
    fill(writer, tensors);
    writer.finish();
  }
  std::ifstream config_file(path_ + "/tokenizer_config.json");
  const Json config = Json::parse(config_file);
  EXPECT_EQ(config["eos_token"], "<|end|>");
  EXPECT_EQ(config["pad_token"], "<|pad|>");
  EXPECT_EQ(config["tokenizer_class"], "PreTrainedTokenizerFast");
  EXPECT_EQ(config["model_max_length"], 256);
  EXPECT_EQ(ModelFolderReader(path_).tokenizer_json(), path_ + "/tokenizer.json");
  EXPECT_EQ(ModelFolderReader(path_).sequence_length(), 256);
  for (const auto& [text, length] :
       {std::pair{R"({"model_max_length": 64})", 64},
        {R"({"model_max_length": 1000000000000000019884624838656})", 256},
        {R"({"model_max_length": 0})", 256},
        {R"({"model_max_length": "long"})", 256},
        {"[]", 256}}) {
    std::ofstream(path_ + "/tokenizer_config.json") << text;
    EXPECT_EQ(ModelFolderReader(path_).sequence_length(), length) << text;
  }

  fs::remove_all(path_);
  ModelFolder missing = folder;
  missing.tokens.eos = 5;
  EXPECT_SAYS(error_of([&] { ModelFolderWriter(path_, missing, tensors); }), "id 5");
  missing = folder;
  missing.tokenizer_json = "[]";
  EXPECT_SAYS(error_of([&] { ModelFolderWriter(path_, missing, tensors); }),
              "not a tokenizer.json");
  EXPECT_EQ(names_in(root_), std::set<std::string>{});
}

TEST_F(Folder, UnfinishedLeavesNothing) {
  const ModelSettings settings = v3_settings();
  const auto tensors = tensors_of(settings, true);
  {
    ModelFolderWriter writer(path_, {.settings = settings}, tensors);
    writer.append("lm_head.weight", std::vector<float>(10));
    EXPECT_SAYS(error_of([&] { writer.finish(); }), "tensor ");
  }
  EXPECT_TRUE(names_in(root_).empty());
  fs::create_directories(path_);
  std::ofstream(path_ + "/notes.txt") << "mine";
  EXPECT_SAYS(error_of([&] { ModelFolderWriter(path_, {.settings = settings}, tensors); }),
              "already exists");
  EXPECT_EQ(names_in(path_), std::set<std::string>{"notes.txt"});
}

TEST_F(Folder, DamagedFolders) {
  const ModelSettings settings = v3_settings();
  const auto tensors = tensors_of(settings, true);
  ModelFolderWriter writer(
      path_, {.settings = settings, .dtype = DType::f32, .max_shard_bytes = 6000}, tensors);
  fill(writer, tensors);
  writer.finish();
  const std::string index_path = path_ + "/model.safetensors.index.json";
  std::ifstream index_file(index_path);
  const Json index = Json::parse(index_file);
  const auto error_with = [&](const Json& changed) {
    std::ofstream(index_path) << changed.dump();
    return error_of([&] { ModelFolderReader{path_}; });
  };
  Json bad = index;
  bad["weight_map"]["model.norm.weight"] = index["weight_map"]["lm_head.weight"];
  EXPECT_SAYS(error_with(bad), "no tensor model.norm.weight");
  bad = index;
  bad["weight_map"]["lm_head.weight"] = "../secret";
  EXPECT_SAYS(error_with(bad), "lm_head.weight");
  EXPECT_SAYS(error_with(Json::object()), "no weight_map");
  EXPECT_SAYS(error_with(index), "nothing was thrown");
  const std::string first = index["weight_map"]["model.embed_tokens.weight"].get<std::string>();
  fs::resize_file(path_ + "/" + first, fs::file_size(path_ + "/" + first) - 4);
  EXPECT_SAYS(error_with(index), first + ": is cut short: tensor ");
  fs::remove(path_ + "/" + first);
  EXPECT_SAYS(error_with(index), first);
  fs::remove(index_path);
  EXPECT_SAYS(error_of([&] { ModelFolderReader{path_}; }), "model.safetensors");
  fs::remove(path_ + "/config.json");
  EXPECT_SAYS(error_of([&] { ModelFolderReader{path_}; }), "config.json");
}

}  // namespace
}  // namespace strait::huggingface
