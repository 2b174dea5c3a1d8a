#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/errors.h"
#include "data/hdf5/read_file.h"
#include "data/huggingface/fp8_blocks.h"
#include "data/huggingface/model_folder.h"

namespace strait::huggingface {
namespace {

using Json = nlohmann::json;

// Tensor -> file, as the index says.
std::map<std::string, std::string> read_index(const std::string& path) {
  const Json json = Json::parse(read_file(path), nullptr, false);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    throw DataError(fmt::format("{}: is not an index: it has no weight_map", path));
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    if (!file.is_string() || file.get<std::string>().empty() ||
        file.get<std::string>().find('/') != std::string::npos)
      throw DataError(fmt::format("{}: tensor {}: {} is not a file name", path, tensor,
                                  file.dump(-1, ' ', false, Json::error_handler_t::replace)));
    files[tensor] = file.get<std::string>();
  }
  return files;
}

}  // namespace

struct ModelFolderReader::State {
  std::string path;
  ModelSettings settings;
  SpecialTokens tokens;
  std::map<std::string, SafetensorsFile> files;
  std::map<std::string, const SafetensorsFile*> file_of;
  std::map<std::string, StoredTensor> tensors;
  // Of the FP8 weight that was read last.
  std::string scaled;
  std::vector<float> scales;

  void require_scales() const;
  void read_fp8(const std::string& name, int64_t offset, std::span<float> out);
  void add(const std::string& name, const SafetensorsFile& file) {
    tensors[name] = file.tensor(name);
    file_of[name] = &file;
  }
  const SafetensorsFile& file_with(const std::string& name) const {
    const auto at = file_of.find(name);
    if (at == file_of.end()) throw DataError(fmt::format("{}: has no tensor {}", path, name));
    return *at->second;
  }
};

// Every FP8 tensor is a weight with a scale for each block.
void ModelFolderReader::State::require_scales() const {
  const auto text = [](const std::vector<int64_t>& shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
  };
  for (const auto& [name, tensor] : tensors) {
    if (tensor.dtype != "F8_E4M3") continue;
    if (tensor.shape.size() != 2)
      throw DataError(fmt::format("{}: tensor {} is FP8 and has shape {}; only matrices are", path,
                                  name, text(tensor.shape)));
    const auto scales = tensors.find(scales_name(name));
    if (scales == tensors.end())
      throw DataError(fmt::format("{}: tensor {} is FP8, and its scales {} are missing", path, name,
                                  scales_name(name)));
    const std::vector<int64_t> wanted = scales_shape(tensor.shape);
    if (scales->second.shape != wanted)
      throw DataError(fmt::format(
          "{}: tensor {} has shape {}, expected {}: a scale for each block of 128 x 128 of {}",
          path, scales_name(name), text(scales->second.shape), text(wanted), text(tensor.shape)));
  }
}

void ModelFolderReader::State::read_fp8(const std::string& name, int64_t offset,
                                        std::span<float> out) {
  const SafetensorsFile& file = file_with(name);
  if (scaled != name) {
    const StoredTensor& stored = tensors.at(scales_name(name));
    scaled.clear();
    scales.resize(static_cast<size_t>(stored.numel()));
    file_with(stored.name).read(stored.name, 0, scales);
    scaled = name;
  }
  std::vector<uint8_t> codes(out.size());
  file.read_raw(name, offset, std::as_writable_bytes(std::span(codes)));
  dequantise_blocks(codes, offset, tensors.at(name).shape[1], scales, out);
}

ModelFolderReader::ModelFolderReader(const std::string& path) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.path = path;
  const std::string config_path = path + "/config.json";
  const std::string config = read_file(config_path);
  state.settings = from_config_json(config, config_path);
  state.tokens = special_tokens_from_config_json(config, config_path);

  const std::string index_path = path + "/model.safetensors.index.json";
  if (std::filesystem::exists(index_path)) {
    for (const auto& [tensor, file] : read_index(index_path)) {
      auto at = state.files.find(file);
      if (at == state.files.end())
        at = state.files
                 .emplace(file, SafetensorsFile((std::filesystem::path(path) / file).string()))
                 .first;
      state.add(tensor, at->second);
    }
  } else {
    const std::string file = "model.safetensors";
    const SafetensorsFile& weights =
        state.files.emplace(file, SafetensorsFile(path + "/" + file)).first->second;
    for (const auto& [name, tensor] : weights.tensors()) state.add(name, weights);
  }
  state.require_scales();
  if (!has(fmt::format("model.layers.{}.eh_proj.weight", state.settings.num_hidden_layers)))
    state.settings.num_nextn_predict_layers = 0;
}

ModelFolderReader::~ModelFolderReader() = default;
ModelFolderReader::ModelFolderReader(ModelFolderReader&&) noexcept = default;

const ModelSettings& ModelFolderReader::settings() const { return state_->settings; }
const SpecialTokens& ModelFolderReader::tokens() const { return state_->tokens; }

int64_t ModelFolderReader::sequence_length() const {
  const int64_t most = settings().max_position_embeddings;
  const std::string path = state_->path + "/tokenizer_config.json";
  if (!std::filesystem::exists(path)) return most;
  const Json json = Json::parse(read_file(path), nullptr, false);
  if (json.is_discarded()) throw DataError(path + ": is not JSON");
  if (!json.is_object() || !json.contains("model_max_length")) return most;
  // `transformers` writes 1e30 for "any".
  const Json& length = json["model_max_length"];
  const bool allowed = length.is_number_integer() && length >= 1 && length <= most;
  return allowed ? length.get<int64_t>() : most;
}

std::string ModelFolderReader::tokenizer_json() const {
  const std::string file = state_->path + "/tokenizer.json";
  return std::filesystem::exists(file) ? file : "";
}

const std::map<std::string, StoredTensor>& ModelFolderReader::tensors() const {
  return state_->tensors;
}

bool ModelFolderReader::has(const std::string& name) const {
  return state_->tensors.contains(name);
}

void ModelFolderReader::read(const std::string& name, int64_t offset, std::span<float> out) const {
  if (has(name) && state_->tensors.at(name).dtype == "F8_E4M3")
    return state_->read_fp8(name, offset, out);
  state_->file_with(name).read(name, offset, out);
}

void ModelFolderReader::read_raw(const std::string& name, int64_t offset,
                                 std::span<std::byte> out) const {
  state_->file_with(name).read_raw(name, offset, out);
}

}  // namespace strait::huggingface
