#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/errors.h"
#include "core/ops/math/scales.h"
#include "data/hdf5/durable.h"
#include "data/huggingface/files.h"
#include "data/huggingface/fp8_blocks.h"
#include "data/huggingface/model_folder.h"
#include "data/huggingface/tokenizer_files.h"

namespace strait::huggingface {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr size_t kBufferElements = 1 << 16;
constexpr int64_t kSlackBytes = int64_t{16} << 20;  // headers, index, tokenizer

std::string layer_name(int64_t layer, const std::string& rest) {
  return fmt::format("model.layers.{}.{}", layer, rest);
}

bool is_selection_bias(const std::string& name) {
  return name.ends_with(".e_score_correction_bias");
}

// What `transformers` expects of every MoE layer, MTP's included, beyond what Strait trains.
void add_expected(const ModelSettings& s, std::vector<TensorSpec>& tensors,
                  std::vector<std::string>& zeros) {
  std::set<std::string> names;
  for (const TensorSpec& tensor : tensors) names.insert(tensor.name);
  for (int64_t layer = 0; layer < s.num_hidden_layers + s.num_nextn_predict_layers; ++layer) {
    if (!names.contains(layer_name(layer, "mlp.gate.weight"))) continue;
    const std::string bias = layer_name(layer, "mlp.gate.e_score_correction_bias");
    if (s.scoring_func == "sigmoid" && !names.contains(bias)) {
      tensors.push_back({bias, {s.n_routed_experts}, DType::f32});
      zeros.push_back(bias);
    }
    if (s.n_shared_experts > 0) continue;
    for (const char* part : {"gate_proj", "up_proj"})
      tensors.push_back({layer_name(layer, fmt::format("mlp.shared_experts.{}.weight", part)),
                         {0, s.hidden_size}});
    tensors.push_back(
        {layer_name(layer, "mlp.shared_experts.down_proj.weight"), {s.hidden_size, 0}});
  }
}

// The MTP module shares embedding and head with the main model; the format has copies of them under
// its layer.
std::map<std::string, std::string> mtp_copies(const ModelSettings& s,
                                              std::vector<TensorSpec>& tensors) {
  std::map<std::string, std::string> copy_of;
  if (s.num_nextn_predict_layers == 0) return copy_of;
  const std::string embedding = layer_name(s.num_hidden_layers, "embed_tokens.weight");
  const std::string head = layer_name(s.num_hidden_layers, "shared_head.head.weight");
  for (const TensorSpec& tensor : tensors)
    if (tensor.name == embedding || tensor.name == head) return copy_of;
  const TensorSpec* main_embedding = nullptr;
  const TensorSpec* main_head = nullptr;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name == "model.embed_tokens.weight") main_embedding = &tensor;
    if (tensor.name == "lm_head.weight") main_head = &tensor;
  }
  if (main_embedding == nullptr || (main_head == nullptr && !s.tie_word_embeddings)) return copy_of;
  std::vector<TensorSpec> added = {{embedding, main_embedding->shape}};
  copy_of[main_embedding->name] = embedding;
  if (main_head != nullptr) {
    added.push_back({head, main_head->shape});
    copy_of[main_head->name] = head;
  }
  tensors.insert(tensors.end(), added.begin(), added.end());
  return copy_of;
}

// Gives every tensor its dtype in the files, and those in FP8 a tensor of scales behind them.
std::vector<TensorSpec> with_formats(const ModelFolder& folder,
                                     const std::vector<TensorSpec>& tensors) {
  std::vector<TensorSpec> all;
  for (const TensorSpec& tensor : tensors) {
    all.push_back(tensor);
    all.back().dtype = is_selection_bias(tensor.name) ? DType::f32 : folder.dtype;
    if (!folder.fp8 || !is_fp8_weight(tensor.name) || tensor.numel() == 0) continue;
    all.back().dtype = DType::u8;
    all.back().e4m3 = true;
    all.push_back({scales_name(tensor.name), scales_shape(tensor.shape), DType::f32});
  }
  return all;
}

// A weight in FP8 whose values come: those of a row of blocks that is not whole yet.
struct BlockRows {
  int64_t rows = 0, cols = 0;
  int64_t done = 0;  // rows that are written
  std::vector<float> waiting = {};

  int64_t rows_of_next() const { return std::min<int64_t>(kScaleBlock, rows - done); }
};

// Consecutive tensors that fit together become one file.
std::vector<std::vector<TensorSpec>> split(const std::vector<TensorSpec>& tensors,
                                           int64_t max_bytes) {
  std::vector<std::vector<TensorSpec>> shards(1);
  int64_t bytes = 0;
  for (const TensorSpec& tensor : tensors) {
    if (!shards.back().empty() && bytes + tensor.bytes() > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += tensor.bytes();
  }
  return shards;
}

}  // namespace

struct ModelFolderWriter::State {
  std::string path, temporary;
  ModelFolder folder;
  std::vector<std::unique_ptr<SafetensorsWriter>> shards;
  std::map<std::string, SafetensorsWriter*> shard_of;
  std::map<std::string, std::string> copy_of;
  std::map<std::string, BlockRows> fp8;  // of the weights in FP8
  std::vector<bfloat16> buffer;

  ~State() {
    shards.clear();
    std::error_code ignored;
    fs::remove_all(temporary, ignored);  // after publish() there is none
  }
  void open_shards(const std::vector<TensorSpec>& tensors);
  void write_small_files();
  void append(const std::string& name, std::span<const float> values);
  void append_fp8(const std::string& name, BlockRows& weight, std::span<const float> values);
};

void ModelFolderWriter::State::open_shards(const std::vector<TensorSpec>& tensors) {
  const auto split_tensors = split(tensors, folder.max_shard_bytes);
  Json weight_map = Json::object();
  int64_t total_bytes = 0;
  for (size_t index = 0; index < split_tensors.size(); ++index) {
    const std::string file =
        split_tensors.size() == 1
            ? "model.safetensors"
            : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, split_tensors.size());
    shards.push_back(
        std::make_unique<SafetensorsWriter>(temporary + "/" + file, split_tensors[index]));
    for (const TensorSpec& tensor : split_tensors[index]) {
      shard_of[tensor.name] = shards.back().get();
      weight_map[tensor.name] = file;
      if (tensor.e4m3) fp8[tensor.name] = {.rows = tensor.shape[0], .cols = tensor.shape[1]};
      total_bytes += tensor.bytes();
    }
  }
  if (split_tensors.size() == 1) return;
  const Json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
  write_text(temporary + "/model.safetensors.index.json", index.dump(2) + "\n");
}

void ModelFolderWriter::State::write_small_files() {
  write_text(temporary + "/config.json",
             to_config_json(folder.settings, folder.tokens, folder.dtype, folder.fp8));
  Json generation = {{"_from_model_config", true}};
  if (folder.tokens.bos >= 0) generation["bos_token_id"] = folder.tokens.bos;
  if (folder.tokens.eos >= 0) generation["eos_token_id"] = folder.tokens.eos;
  if (folder.tokens.pad >= 0) generation["pad_token_id"] = folder.tokens.pad;
  write_text(temporary + "/generation_config.json", generation.dump(2) + "\n");
  if (!folder.tokenizer_json.empty())
    write_tokenizer_files(temporary, folder.tokenizer_json, folder.tokens,
                          folder.sequence_length > 0 ? folder.sequence_length
                                                     : folder.settings.max_position_embeddings);
}

ModelFolderWriter::ModelFolderWriter(const std::string& path, const ModelFolder& folder,
                                     std::vector<TensorSpec> tensors) {
  require_exportable(folder.settings);
  STRAIT_CHECK(folder.dtype == DType::f32 || folder.dtype == DType::bf16, name_of(folder.dtype));
  std::error_code error;
  if (fs::exists(path, error) && !(fs::is_directory(path, error) && fs::is_empty(path, error)))
    throw DataError(fmt::format("{}: already exists", path));
  const auto copies = mtp_copies(folder.settings, tensors);
  std::vector<std::string> zeros;
  add_expected(folder.settings, tensors, zeros);
  tensors = with_formats(folder, tensors);
  int64_t total_bytes = kSlackBytes;
  for (const TensorSpec& tensor : tensors) total_bytes += tensor.bytes();
  require_free_disk(path, total_bytes);

  state_ = std::make_unique<State>();
  state_->path = path;
  // A path that ends in a slash would put the temporary folder inside of the final one.
  while (state_->path.size() > 1 && state_->path.ends_with('/')) state_->path.pop_back();
  state_->temporary = temporary_name(state_->path);
  state_->folder = folder;
  state_->copy_of = copies;
  fs::remove_all(state_->temporary, error);
  fs::create_directories(state_->temporary, error);
  if (error) throw DataError(fmt::format("{}: cannot be made: {}", state_->path, error.message()));
  state_->write_small_files();
  state_->open_shards(tensors);
  for (const std::string& name : zeros)
    append(name, std::vector<float>(static_cast<size_t>(folder.settings.n_routed_experts)));
}

ModelFolderWriter::~ModelFolderWriter() = default;

void ModelFolderWriter::State::append(const std::string& name, std::span<const float> values) {
  const auto at = shard_of.find(name);
  STRAIT_CHECK(at != shard_of.end(), "tensor " + name + " was not announced");
  if (const auto blocks = fp8.find(name); blocks != fp8.end())
    return append_fp8(name, blocks->second, values);
  if (folder.dtype == DType::f32 || is_selection_bias(name))
    return at->second->append(name, std::as_bytes(values));
  buffer.resize(kBufferElements);
  for (size_t done = 0; done < values.size(); done += kBufferElements) {
    const std::span<const float> part =
        values.subspan(done, std::min(kBufferElements, values.size() - done));
    std::transform(part.begin(), part.end(), buffer.begin(), to_bfloat16);
    at->second->append(name, std::as_bytes(std::span(buffer).first(part.size())));
  }
}

void ModelFolderWriter::State::append_fp8(const std::string& name, BlockRows& weight,
                                          std::span<const float> values) {
  SafetensorsWriter& file = *shard_of.at(name);
  std::vector<uint8_t> codes;
  std::vector<float> scales(static_cast<size_t>(ceil_div(weight.cols, kScaleBlock)));
  while (!values.empty()) {
    const int64_t rows = weight.rows_of_next();
    STRAIT_CHECK(rows > 0, "tensor " + name + " has no room");
    const auto whole = static_cast<size_t>(rows * weight.cols);
    const size_t more = std::min(whole - weight.waiting.size(), values.size());
    weight.waiting.insert(weight.waiting.end(), values.begin(),
                          values.begin() + static_cast<std::ptrdiff_t>(more));
    values = values.subspan(more);
    if (weight.waiting.size() < whole) return;
    codes.resize(whole);
    quantise_block_row(weight.waiting, weight.cols, codes, scales);
    file.append(name, std::as_bytes(std::span(codes)));
    file.append(scales_name(name), std::as_bytes(std::span(scales)));
    weight.waiting.clear();
    weight.done += rows;
  }
}

void ModelFolderWriter::append(const std::string& name, std::span<const float> values) {
  state_->append(name, values);
  const auto copy = state_->copy_of.find(name);
  if (copy != state_->copy_of.end()) state_->append(copy->second, values);
}

void ModelFolderWriter::finish() {
  for (const auto& shard : state_->shards) shard->finish();
  publish(state_->temporary, state_->path);
}

}  // namespace strait::huggingface
